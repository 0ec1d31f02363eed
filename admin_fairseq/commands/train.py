"""``admin-fairseq train``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Iterable

from admin_fairseq.commands.command import Command, positive
from admin_fairseq.commands.runs import add_runs
from admin_fairseq.running.training import LAUNCHERS, TrainOptions, train


def _add_options(parser: ArgumentParser) -> None:
    add_runs(parser)
    parser.add_argument("--gpus", metavar="N", type=positive, help="on each node (default: all)")
    parser.add_argument(
        "--nodes", metavar="N", type=positive, default=1, help="(default: %(default)s)"
    )
    parser.add_argument(
        "--launcher",
        choices=list(LAUNCHERS),
        default="torchrun",
        help="what starts several nodes: torchrun (start this command on each) or slurm (start it "
        "once; default: %(default)s)",
    )
    parser.add_argument(
        "--endpoint", metavar="HOST:PORT", help="for torchrun: where the first node is reached"
    )
    parser.add_argument(
        "--update-freq",
        metavar="N",
        type=positive,
        help="batches in an update (default: what makes the published batch)",
    )
    parser.epilog = "Words after -- go to fairseq-train as they are. Run again, it resumes."


def _run(args: Namespace) -> Iterable[str]:
    return train(TrainOptions(**vars(args)))


COMMAND = Command(_add_options, _run, passes_words_on=True)
