"""What a subcommand is, and the options that several of them have."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from typing import Callable, Iterable, Mapping, NamedTuple

from admin_fairseq.bounds import Bounds, counting
from admin_fairseq.checkpoints.dictionaries import DataBin, data_bin
from admin_fairseq.checkpoints.storage import run_options
from admin_fairseq.errors import blaming


class Command(NamedTuple):
    """A subcommand; ``run`` gives the lines to print.

    What writes files does so before it gives the first line: nobody may be reading them. Lines are
    printed with escapes for what steers a terminal, unless they are ``verbatim``: data that the
    next program reads. One that ``passes_words_on`` finds those after ``--`` in ``args.words``.
    """

    add_options: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], Iterable[str]]
    verbatim: bool = False
    passes_words_on: bool = False


positive = counting(1)
"""The type of an option that counts something."""

finite = Bounds(-sys.float_info.max)
"""The type of an option that is any number."""


def add_force(parser: ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="replace the output if it is there")


def add_data(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--data", metavar="DATA_BIN", required=True, help="folder with the model's dictionaries"
    )
    for side in ("source", "target"):
        parser.add_argument(
            f"--{side}-lang", metavar="LANG", help=f"{side} language, if not the checkpoint's own"
        )


def data_of(args: Namespace, state: Mapping) -> DataBin:
    """The data that ``add_data``'s options mean for a checkpoint."""
    with blaming(args.input):
        task = run_options(state).get("task") or {}
    return data_bin(args.data, task, args.source_lang, args.target_lang)
