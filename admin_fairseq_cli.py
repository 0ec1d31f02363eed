"""The entry point of ``admin-fairseq``, which shows its help and version without the package.

It is beside the package, as ``fairseq_cli`` is beside fairseq: importing ``admin_fairseq`` takes
seconds, as it imports fairseq and torch.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Callable, Optional, Sequence

SUBCOMMANDS = {
    "analyze": "see why a model trains or fails: measurements and pictures",
    "average": "average checkpoints of a run",
    "benchmark": "training speed and memory beside fairseq's own transformer",
    "configs": "files for fairseq-hydra-train: rows of the published tables, model=, optimizer=",
    "evaluate": "average, translate and score runs of train, as published",
    "export": "fold a checkpoint and convert it for another engine",
    "fold": "fold a model's scales into its weights: a checkpoint of fairseq's own transformer "
    "that computes the same",
    "import-release": "convert a checkpoint of the original Admin release",
    "prepare": "from published archives, or your own text, to a data set for fairseq-train",
    "results": "table and loss curves of training runs, from their logs",
    "schemes": "list the schemes, the values of --init-type",
    "score": "BLEU: tokenised, compound-split and sacreBLEU's",
    "table": "train and score schemes at several depths with several seeds, and print one table",
    "train": "fairseq-train with the settings of a published run",
    "translate": "translate standard input with an exported model",
}
"""Subcommand → its help; ``admin_fairseq.commands`` has a module for each."""


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Show help or version; everything else is for ``admin_fairseq.cli``."""
    words = sys.argv[1:] if argv is None else list(argv)
    if words in (["-h"], ["--help"], ["--version"]):
        parser_of(ArgumentParser)[0].parse_args(words)
    try:
        from admin_fairseq import cli  # not above: it takes seconds
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # as in shells

    cli.main(words)


def parser_of(kind: Callable[..., ArgumentParser]) -> tuple[ArgumentParser, dict[str, Any]]:
    """The command's parser, of class ``kind``, and those of its subcommands, without options."""
    parser = kind(prog="admin-fairseq", description="Tools of the fairseq plugin admin_fairseq.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    parser.add_argument(
        "--debug", action="store_true", help="show the traceback of an unexpected error"
    )
    subparsers = parser.add_subparsers(dest="command", metavar="SUBCOMMAND", required=True)
    return parser, {
        name: subparsers.add_parser(name, help=text, description=text, allow_abbrev=False)
        for name, text in SUBCOMMANDS.items()
    }


def _version() -> str:
    try:
        return version("admin-fairseq")
    except PackageNotFoundError:  # --user-dir needs only the folder
        return "(a source tree that is not installed)"
