"""The subcommand ``admin-fairseq import-release``: convert a checkpoint of the original Admin
release to one of this plugin."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Iterable

from admin_fairseq.checkpoints.release import import_release
from admin_fairseq.checkpoints.storage import read_checkpoint, write_checkpoint
from admin_fairseq.commands.command import Command, add_data, add_force, data_of
from admin_fairseq.errors import blaming
from admin_fairseq.files import refuse_to_overwrite


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("input", metavar="IN.pt", help="checkpoint of the original release")
    parser.add_argument("output", metavar="OUT.pt", help="checkpoint to write")
    add_data(parser)
    add_force(parser)


def _run(args: Namespace) -> Iterable[str]:
    refuse_to_overwrite(args.output, args.force)
    state = read_checkpoint(args.input)
    data = data_of(args, state)
    with blaming(args.input):
        imported = import_release(state, data)
    write_checkpoint(imported, args.output, args.force)
    return [f"wrote {args.output}, without optimiser state"]


COMMAND = Command(_add_options, _run)
