"""The subcommand ``admin-fairseq evaluate``: translate the test set with trained models, and
compute BLEU."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Iterable

from admin_fairseq.commands.command import Command, finite, positive
from admin_fairseq.commands.runs import add_runs
from admin_fairseq.running.evaluation import EvaluateOptions, evaluate


def _add_options(parser: ArgumentParser) -> None:
    add_runs(parser)
    for name, metavar, kind, what in (
        ("--average", "K", positive, "average the last K epoch checkpoints"),
        ("--last-epoch", "N", positive, "ignore checkpoints after this epoch"),
        ("--beam", "N", positive, "beam width"),
        ("--lenpen", "X", finite, "length penalty"),
        ("--checkpoint", "NAME", str, "file in each run's folder, instead of an average"),
    ):
        parser.add_argument(
            name, metavar=metavar, type=kind, help=f"{what} (default: the recipe's)"
        )
    parser.add_argument(
        "--max-tokens",
        metavar="N",
        type=positive,
        default=4096,
        help="tokens in a batch (default: %(default)s)",
    )
    parser.epilog = (
        "The averaged epochs are fixed beforehand, never chosen on the test set. Arguments after "
        "-- are passed on to fairseq-generate."
    )


def _run(args: Namespace) -> Iterable[str]:
    return evaluate(EvaluateOptions(**vars(args)))


COMMAND = Command(_add_options, _run, passes_words_on=True)
