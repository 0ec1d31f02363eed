"""Where the command ``admin-fairseq`` starts: its help and its version come without the package.

It lies beside the package, as ``fairseq_cli`` lies beside fairseq: importing ``admin_fairseq``
takes seconds, as it imports fairseq and torch.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from importlib.metadata import version
from typing import Optional, Sequence

SUBCOMMANDS = {
    "analyze": "see why a model trains or fails: measurements and pictures",
    "average": "average checkpoints of a run",
    "benchmark": "training speed and memory beside fairseq's own transformer",
    "export": "fold a checkpoint and convert it for another engine",
    "fold": "fold a model's scales away: a checkpoint of fairseq's own transformer that computes "
    "the same",
    "import-release": "bring over a checkpoint of the original Admin release",
    "prepare": "from published archives, or your own text, to a data set for fairseq-train",
    "results": "table and loss curves of training runs, from their logs",
    "schemes": "list the schemes, the values of --init-type",
    "score": "BLEU: tokenised, compound-split and sacreBLEU's",
    "translate": "translate standard input with an exported model",
}
"""Subcommand → its help, word for word as in ``admin_fairseq.commands``, which a test holds."""


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Show help or version; everything else is for ``admin_fairseq.cli``."""
    words = sys.argv[1:] if argv is None else list(argv)
    if words in (["-h"], ["--help"], ["--version"]):
        _parser().parse_args(words)
    from admin_fairseq import cli  # not above: it takes seconds

    cli.main(words)


def _parser() -> ArgumentParser:
    """The parser of ``admin_fairseq.cli``, without the options of subcommands."""
    parser = ArgumentParser(
        prog="admin-fairseq", description="Tools of the fairseq plugin admin_fairseq."
    )
    parser.add_argument(
        "--version", action="version", version=f"%(prog)s {version('admin-fairseq')}"
    )
    parser.add_argument(
        "--debug", action="store_true", help="show the traceback of an error that nobody foresaw"
    )
    subparsers = parser.add_subparsers(dest="command", metavar="SUBCOMMAND", required=True)
    for name, text in SUBCOMMANDS.items():
        subparsers.add_parser(name, help=text)
    return parser
