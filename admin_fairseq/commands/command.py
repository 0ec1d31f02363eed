"""The type of a subcommand of ``admin-fairseq``, and options that several subcommands share."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from typing import Callable, Iterable, Mapping, NamedTuple

from admin_fairseq.bounds import Bounds, counting
from admin_fairseq.checkpoints.dictionaries import DataBin, data_bin
from admin_fairseq.checkpoints.storage import run_options
from admin_fairseq.errors import blaming


class Command(NamedTuple):
    """A subcommand of ``admin-fairseq``: a function that adds its options to a parser, and a
    function that runs it and yields the lines to print.

    ``run`` writes its files before it yields the first line: if nobody reads the output (a closed
    pipe), it is stopped at that line.
    """

    add_options: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], Iterable[str]]
    verbatim: bool = False  # print lines without escaping control characters: data for a program
    passes_words_on: bool = False  # accept arguments after --, for fairseq, as args.words
    end: str = "\n"  # print this after each line; "" if run yields lines in parts


positive = counting(1)
"""The argparse type of a whole number from 1 on."""

finite = Bounds(-sys.float_info.max)
"""The argparse type of any finite number."""


def add_force(parser: ArgumentParser) -> None:
    """Add the option --force."""
    parser.add_argument("--force", action="store_true", help="replace the output if it exists")


def add_data(parser: ArgumentParser) -> None:
    """Add --data, --source-lang and --target-lang, which select the dictionaries of a model."""
    parser.add_argument(
        "--data", metavar="DATA_BIN", required=True, help="folder with the model's dictionaries"
    )
    for side in ("source", "target"):
        parser.add_argument(
            f"--{side}-lang", metavar="LANG", help=f"{side} language, if not the checkpoint's own"
        )


def data_of(args: Namespace, state: Mapping) -> DataBin:
    """Return the data folder and languages for a checkpoint: from the options --data, --source-lang
    and --target-lang, or the languages in the checkpoint ``state``."""
    with blaming(args.input):
        task = run_options(state).get("task") or {}
    return data_bin(args.data, task, args.source_lang, args.target_lang)
