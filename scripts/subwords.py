"""Train a sentencepiece model on text files, or split standard input into a model's pieces."""

from __future__ import annotations

import argparse
import sys
from itertools import chain

from admin_fairseq import pieces
from admin_fairseq.corpora.streams import read_lines
from admin_fairseq.errors import exit_in_one_line


def train(args: argparse.Namespace) -> None:
    """Train a model on the lines of all ``args.files`` together, and write it to ``args.model``."""
    lines = chain.from_iterable(map(read_lines, args.files))
    pieces.learn(lines, args.model, args.vocab_size, args.type)


def encode(args: argparse.Namespace) -> None:
    """Print each line of standard input split into the pieces of the model ``args.model``."""
    sys.stdin.reconfigure(encoding="utf-8")
    sys.stdout.reconfigure(encoding="utf-8")
    split = pieces.load(args.model).encode
    for line in sys.stdin:
        print(" ".join(split(line.rstrip("\n"))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    trainer = commands.add_parser("train", help="train on all files together")
    trainer.add_argument("files", nargs="+", help="text files, one sentence a line")
    trainer.add_argument("--model", required=True, help="file to write")
    trainer.add_argument("--vocab-size", type=int, required=True, help="number of pieces")
    trainer.add_argument("--type", choices=("bpe", "unigram"), default="bpe")
    trainer.set_defaults(run=train)
    encoder = commands.add_parser("encode", help="split standard input, print the pieces")
    encoder.add_argument("--model", required=True, help="file that train has written")
    encoder.set_defaults(run=encode)
    args = parser.parse_args()
    with exit_in_one_line():
        args.run(args)


if __name__ == "__main__":
    main()
