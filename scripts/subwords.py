"""Train a sentencepiece model, and split text into its pieces."""

from __future__ import annotations

import argparse
import os
import sys

import sentencepiece


def train(args: argparse.Namespace) -> None:
    partial = f"{args.model}.partial"
    sentencepiece.SentencePieceTrainer.train(
        input=args.files,
        model_prefix=partial,
        vocab_size=args.vocab_size,
        model_type=args.type,
        character_coverage=1.0,
        minloglevel=1,
    )
    os.remove(f"{partial}.vocab")
    os.replace(f"{partial}.model", args.model)


def encode(args: argparse.Namespace) -> None:
    sys.stdin.reconfigure(encoding="utf-8")
    sys.stdout.reconfigure(encoding="utf-8")
    processor = sentencepiece.SentencePieceProcessor(model_file=args.model)
    for line in sys.stdin:
        print(" ".join(processor.encode(line.rstrip("\n"), out_type=str)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    trainer = commands.add_parser("train", help="train on all files together")
    trainer.add_argument("files", nargs="+")
    trainer.add_argument("--model", required=True, help="file to write")
    trainer.add_argument("--vocab-size", type=int, required=True, help="number of pieces")
    trainer.add_argument("--type", choices=("bpe", "unigram"), default="bpe")
    trainer.set_defaults(run=train)
    encoder = commands.add_parser("encode", help="standard input to standard output")
    encoder.add_argument("--model", required=True)
    encoder.set_defaults(run=encode)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
