"""The subcommand ``admin-fairseq fold``: convert a checkpoint to one of fairseq's own transformer
that computes the same, by multiplying the scheme's residual scales (ω, α) into its weights."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Iterable

from admin_fairseq.checkpoints.fold import fold_file
from admin_fairseq.commands.command import Command, add_force


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("input", metavar="IN.pt", help="checkpoint to read")
    parser.add_argument("output", metavar="OUT.pt", help="checkpoint to write")
    parser.add_argument(
        "--check",
        action="store_true",
        help="run random sentences through both models and write only if they agree",
    )
    add_force(parser)


def _run(args: Namespace) -> Iterable[str]:
    lines = fold_file(args.input, args.output, args.check, args.force)
    return [*lines, f"wrote {args.output}, for fairseq without this plugin"]


COMMAND = Command(_add_options, _run)
