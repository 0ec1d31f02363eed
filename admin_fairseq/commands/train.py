"""The subcommand ``admin-fairseq train``: train models with published settings."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Iterable

from admin_fairseq.commands.command import Command, positive
from admin_fairseq.commands.runs import add_runs
from admin_fairseq.running.training import LAUNCHERS, TrainOptions, train


def _add_options(parser: ArgumentParser) -> None:
    add_runs(parser)
    parser.add_argument("--gpus", metavar="N", type=positive, help="GPUs per node (default: all)")
    parser.add_argument(
        "--nodes",
        metavar="N",
        type=positive,
        default=1,
        help="number of machines (default: %(default)s)",
    )
    parser.add_argument(
        "--launcher",
        choices=list(LAUNCHERS),
        default="torchrun",
        help="program that starts the workers on several nodes: torchrun (run this command on each "
        "node) or slurm (run this command once; default: %(default)s)",
    )
    parser.add_argument(
        "--endpoint", metavar="HOST:PORT", help="for torchrun: address of the first node"
    )
    parser.add_argument(
        "--update-freq",
        metavar="N",
        type=positive,
        help="batches in an update (default: as many as give the published batch)",
    )
    parser.epilog = (
        "Arguments after -- are passed on to fairseq-train. If the command is run again, it "
        "resumes the runs."
    )


def _run(args: Namespace) -> Iterable[str]:
    return train(TrainOptions(**vars(args)))


COMMAND = Command(_add_options, _run, passes_words_on=True)
