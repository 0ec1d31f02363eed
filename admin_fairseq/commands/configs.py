"""The subcommand ``admin-fairseq configs``: write configuration files for fairseq-hydra-train."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from typing import Iterable

from admin_fairseq.commands.command import Command, add_force
from admin_fairseq.errors import AdminError
from admin_fairseq.files import read_text, write_all
from admin_fairseq.recipes.rows import config_files


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "folder",
        metavar="DIR",
        nargs="?",
        help="folder to write to, for --config-dir of fairseq-hydra-train (default: one in the "
        "user's cache, $XDG_CACHE_HOME or ~/.cache, whose path is printed, as in "
        'fairseq-hydra-train --config-dir "$(admin-fairseq configs)")',
    )
    add_force(parser)


def _run(args: Namespace) -> Iterable[str]:
    """Write all configuration files; raise AdminError, before writing, if a file of DIR would
    change and --force is not given."""
    files, folder = config_files(), args.folder or _cache()
    for name, text in files.items() if args.folder and not args.force else ():
        path = os.path.join(folder, name)
        if os.path.lexists(path) and read_text(path) != text:
            raise AdminError(f"{path}: differs from what would be written; --force replaces it")
    write_all({name: text.encode() for name, text in files.items()}, folder, force=True)
    return [f"wrote {len(files)} files below {folder}" if args.folder else folder]


def _cache() -> str:
    """Return the folder for these files in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(os.path.abspath(cache), "admin-fairseq", "configs")


COMMAND = Command(_add_options, _run, verbatim=True)  # a shell uses the path as it is
