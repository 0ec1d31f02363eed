"""The subcommand ``admin-fairseq fold``: convert a checkpoint to one of fairseq's own transformer
that computes the same, by multiplying the scheme's residual scales (ω, α) into its weights."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Iterable

from admin_fairseq.checkpoints import fold
from admin_fairseq.checkpoints.storage import read_checkpoint, write_checkpoint
from admin_fairseq.commands.command import Command, add_force
from admin_fairseq.errors import blaming
from admin_fairseq.files import refuse_to_overwrite


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
    refuse_to_overwrite(args.output, args.force)
    state = read_checkpoint(args.input)
    with blaming(args.input):
        stock, lines = fold.fold_checkpoint(state)
    if not lines:
        lines = ["nothing to fold: this is a stock transformer already"]
    if args.check:
        with blaming(args.input):
            difference = fold.check(state, stock)
        lines += [f"largest difference in log-probabilities on random sentences: {difference:.2g}"]
    write_checkpoint(stock, args.output, args.force)
    return [*lines, f"wrote {args.output}, for fairseq without this plugin"]


COMMAND = Command(_add_options, _run)
