"""The subcommand ``admin-fairseq table``: train and evaluate many runs, and print one table."""

from __future__ import annotations

import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import Iterable

from admin_fairseq.commands.command import Command, positive
from admin_fairseq.commands.runs import add_data_set, numbers
from admin_fairseq.errors import shortened
from admin_fairseq.recipes.recipe import SCHEME_NAMES
from admin_fairseq.running.table import TableOptions, table
from admin_fairseq.schemes import SCHEMES, Profiling

ALL = [
    name
    for name in SCHEME_NAMES
    if name != "default" and (name not in SCHEMES or SCHEMES[name].profiling is Profiling.NONE)
]
"""The schemes that ``--schemes all`` selects, each model once: without ``default``, which is
Post-LN or Pre-LN, and without the values of --init-type that are Admin by other names."""


def _schemes(text: str) -> list[str]:
    """Parse the value of --schemes, "all" or names with spaces between them, into scheme names."""
    names = ALL if text.strip() == "all" else text.split()
    unknown = [name for name in names if name not in SCHEME_NAMES]
    if unknown or not names:
        raise ArgumentTypeError(
            f"{shortened(text, 100)!r}: use all, or names with spaces between them: "
            + ", ".join(SCHEME_NAMES)
        )
    return list(dict.fromkeys(names))


def _depths(text: str) -> list[tuple[int, int]]:
    """Parse the value of --depths, such as "6 60-12", into (encoder, decoder) layers."""
    found = [re.fullmatch(r"([1-9]\d{0,4})(?:-([1-9]\d{0,4}))?", word) for word in text.split()]
    if not found or not all(found):
        raise ArgumentTypeError(
            f"{shortened(text, 100)!r}: use numbers with spaces between them, such as 6 18 60-12"
        )
    depths = [(int(match[1]), int(match[2] or match[1])) for match in found if match]
    return list(dict.fromkeys(depths))


def _add_options(parser: ArgumentParser) -> None:
    add_data_set(parser)
    for name, metavar, kind, default, what in (
        ("--schemes", '"A B"', _schemes, "postln preln admin tfixup", 'schemes, or "all"'),
        ("--depths", '"6 60-12"', _depths, "6 18", "layers of both stacks, or ENCODER-DECODER"),
        ("--seeds", '"1 2"', numbers, "1 2", "random seeds"),
    ):
        parser.add_argument(
            name, metavar=metavar, type=kind, default=default, help=f"{what} (default: {default})"
        )
    parser.add_argument(
        "--jobs",
        metavar="N",
        type=positive,
        default=1,
        help="number of runs at a time (default: 1)",
    )
    parser.add_argument(
        "--gpus", metavar="N", type=positive, help="GPUs of each run (default: all)"
    )
    parser.epilog = (
        "The output of a run goes to the file FOLDER.log beside the folder of the run. If the "
        "command is run again, it continues where it stopped. Arguments after -- are passed on to "
        "fairseq-train."
    )


def _run(args: Namespace) -> Iterable[str]:
    return table(TableOptions(**vars(args)))


COMMAND = Command(_add_options, _run, passes_words_on=True)
