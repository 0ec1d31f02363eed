"""The subcommand ``admin-fairseq export``: convert a checkpoint to CTranslate2."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Iterable

from admin_fairseq.checkpoints.storage import read_checkpoint
from admin_fairseq.commands.command import Command, add_data, add_force, data_of
from admin_fairseq.errors import blaming
from admin_fairseq.serving.export import QUANTIZATIONS, export_ctranslate2, refuse_other_tasks


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--to", required=True, choices=("ctranslate2",), help="target engine")
    parser.add_argument("input", metavar="IN.pt", help="checkpoint to read")
    parser.add_argument("output", metavar="OUTDIR", help="folder to write")
    add_data(parser)
    parser.add_argument("--quantization", choices=QUANTIZATIONS, help="type of the weights")
    parser.add_argument(
        "--sentencepiece-model",
        metavar="FILE",
        help="subword model to copy into OUTDIR, so that translate reads and writes plain text",
    )
    add_force(parser)


def _run(args: Namespace) -> Iterable[str]:
    state = read_checkpoint(args.input)
    with blaming(args.input):
        refuse_other_tasks(state)
    data, subwords = data_of(args, state), args.sentencepiece_model
    changes = export_ctranslate2(
        state, args.input, data, args.output, args.quantization, subwords, args.force
    )
    reads = "plain text" if subwords else "pieces (no --sentencepiece-model was given)"
    return [*changes, f"wrote {args.output}, which reads and writes {reads}"]


COMMAND = Command(_add_options, _run)
