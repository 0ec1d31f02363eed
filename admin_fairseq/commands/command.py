"""The type of a subcommand, and options that several of them share."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from typing import Callable, Iterable, Mapping, NamedTuple

from admin_fairseq.bounds import Bounds, counting
from admin_fairseq.checkpoints.dictionaries import DataBin, data_bin
from admin_fairseq.checkpoints.storage import run_options
from admin_fairseq.errors import blaming


class Command(NamedTuple):
    """A subcommand; ``run`` yields the lines to print.

    Files are written before the first line is yielded, since nobody may be reading the output.
    Lines are printed with terminal control characters escaped, unless they are ``verbatim``: data
    for the next program. With ``passes_words_on``, ``args.words`` has the words after ``--``.
    """

    add_options: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], Iterable[str]]
    verbatim: bool = False
    passes_words_on: bool = False


positive = counting(1)
"""The argparse type of a count."""

finite = Bounds(-sys.float_info.max)
"""The argparse type of any number."""


def add_force(parser: ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="replace the output if it exists")


def add_data(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--data", metavar="DATA_BIN", required=True, help="folder with the model's dictionaries"
    )
    for side in ("source", "target"):
        parser.add_argument(
            f"--{side}-lang", metavar="LANG", help=f"{side} language, if not the checkpoint's own"
        )


def data_of(args: Namespace, state: Mapping) -> DataBin:
    """The data folder and languages that ``add_data``'s options select for a checkpoint."""
    with blaming(args.input):
        task = run_options(state).get("task") or {}
    return data_bin(args.data, task, args.source_lang, args.target_lang)
