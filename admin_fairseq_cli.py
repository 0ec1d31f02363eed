"""The entry point of ``admin-fairseq``, which shows its help and version without the package.

It is beside the package, as ``fairseq_cli`` is beside fairseq: importing ``admin_fairseq`` takes
seconds, as it imports fairseq and torch.
"""

from __future__ import annotations

import sys
import textwrap
from argparse import SUPPRESS, ArgumentParser, RawDescriptionHelpFormatter
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Callable, Optional, Sequence

GROUPS = {
    "data": {
        "prepare": "from published archives, or your own text, to a data set for fairseq-train",
    },
    "training": {
        "schemes": "list the schemes, the values of --init-type",
        "train": "fairseq-train with the settings of a published run",
        "table": "train and score schemes at several depths, with several seeds: one table",
        "configs": "files for fairseq-hydra-train: rows of the published tables, and model=",
    },
    "results": {
        "evaluate": "average, translate and score runs of train, as published",
        "score": "BLEU and chrF2 of a translated test set, and how significantly systems differ",
        "results": "table and loss curves of training runs, from their logs",
    },
    "checkpoints and serving": {
        "average": "average checkpoints of a run",
        "fold": "fold a model's scales into its weights: a checkpoint of fairseq's own transformer "
        "that computes the same",
        "import-release": "convert a checkpoint of the original Admin release",
        "export": "fold a checkpoint and convert it for another engine",
        "translate": "translate standard input with an exported model",
        "generate": "continue standard input with an exported language model",
    },
    "measurements": {
        "analyze": "see why a model trains or fails: measurements and pictures",
        "benchmark": "training speed and memory beside fairseq's own transformer",
    },
}
"""What a user wants to do → subcommand → its help; ``admin_fairseq.commands`` has a module for each
subcommand."""

SUBCOMMANDS = {name: text for group in GROUPS.values() for name, text in group.items()}
"""Subcommand → its help."""

NAMES = 18  # width of the column of names


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Show help or version, or refuse an unknown subcommand; all else is for
    ``admin_fairseq.cli``."""
    words = sys.argv[1:] if argv is None else list(argv)
    if words in (["-h"], ["--help"], ["--version"]):
        parser_of(ArgumentParser)[0].parse_args(words)
    _refuse_unknown(next((word for word in words if not word.startswith("-")), None))
    try:
        from admin_fairseq import cli  # not above: it takes seconds
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # as in shells

    cli.main(words)


def _refuse_unknown(name: Optional[str]) -> None:
    """End the process in one line if ``name`` is given and no subcommand."""
    if name is None or name in SUBCOMMANDS:
        return
    near = "".join(f"; do you mean {one}?" for one in get_close_matches(name, SUBCOMMANDS, 1))
    raise SystemExit(
        f"admin-fairseq: error: no subcommand {name!r}{near} (see admin-fairseq --help)"
    )


def parser_of(kind: Callable[..., ArgumentParser]) -> tuple[ArgumentParser, dict[str, Any]]:
    """The command's parser, of class ``kind``, and those of its subcommands, without options."""
    parser = kind(
        prog="admin-fairseq",
        usage="admin-fairseq [-h] [--version] [--debug] SUBCOMMAND ...",
        description="Tools of the fairseq plugin admin_fairseq.",
        epilog=f"{_listed()}\n\nadmin-fairseq SUBCOMMAND --help explains each.",
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    parser.add_argument(
        "--debug", action="store_true", help="show the traceback of an unexpected error"
    )
    subparsers = parser.add_subparsers(
        prog="admin-fairseq", dest="command", metavar="SUBCOMMAND", required=True, help=SUPPRESS
    )
    return parser, {
        name: subparsers.add_parser(name, description=text, allow_abbrev=False)
        for name, text in SUBCOMMANDS.items()
    }


def _listed() -> str:
    """Return the subcommands in their groups, as the help shows them."""
    return "\n\n".join(
        "\n".join([f"{title}:", *(_entry(name, text) for name, text in group.items())])
        for title, group in GROUPS.items()
    )


def _entry(name: str, text: str) -> str:
    """Return the lines of one subcommand."""
    wrapped = textwrap.fill(text, 79, initial_indent=" " * NAMES, subsequent_indent=" " * NAMES)
    return f"  {name:{NAMES - 2}}" + wrapped[NAMES:]


def _version() -> str:
    try:
        return version("admin-fairseq")
    except PackageNotFoundError:  # --user-dir needs only the folder
        return "(a source tree that is not installed)"
