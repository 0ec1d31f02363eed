"""The subcommand ``admin-fairseq average``: write the mean of several checkpoints' weights.

Its options are those of fairseq's own script, ``scripts/average_checkpoints.py``."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from typing import Iterable

from admin_fairseq.checkpoints import average
from admin_fairseq.checkpoints.storage import write_checkpoint
from admin_fairseq.commands.command import Command, add_force, positive
from admin_fairseq.errors import AdminError
from admin_fairseq.files import refuse_to_overwrite


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--inputs",
        metavar="PATH",
        nargs="+",
        required=True,
        help="checkpoints, or one folder of them with one of the --num options",
    )
    parser.add_argument("--output", metavar="OUT.pt", required=True, help="checkpoint to write")
    choice = parser.add_mutually_exclusive_group()
    for kind, which in (
        ("epoch", "last K saved at the end of an epoch (checkpointE.pt)"),
        ("update", "last K saved during an epoch (checkpoint_E_U.pt)"),
        ("best", "K best by validation score, whatever their names"),
    ):
        choice.add_argument(
            f"--num-{kind}-checkpoints", metavar="K", type=positive, help=f"average the {which}"
        )
    parser.add_argument(
        "--checkpoint-upper-bound",
        metavar="N",
        type=positive,
        help="leave out checkpoints after epoch or update N",
    )
    add_force(parser)


def _run(args: Namespace) -> Iterable[str]:
    refuse_to_overwrite(args.output, args.force)
    paths = _inputs(args)
    write_checkpoint(average.average(paths), args.output, args.force)
    return [
        *(f"averaged {path}" for path in paths),
        f"wrote {args.output}, the mean of {len(paths)} checkpoints",
    ]


def _inputs(args: Namespace) -> list[str]:
    """Return the paths of the checkpoints that the options select; of a folder's checkpoints, the
    newest (or best) comes last. Raise AdminError for contradictory options."""
    first, bound = args.inputs[0], args.checkpoint_upper_bound
    chosen_by_number = args.num_epoch_checkpoints or args.num_update_checkpoints
    if bound and not chosen_by_number:
        raise AdminError(
            "--checkpoint-upper-bound needs --num-epoch-checkpoints or --num-update-checkpoints"
        )
    if (chosen_by_number or args.num_best_checkpoints) and len(args.inputs) > 1:
        raise AdminError("--inputs must be one folder with a --num option")
    if args.num_epoch_checkpoints:
        return average.last_checkpoints(first, args.num_epoch_checkpoints, average.BY_EPOCH, bound)
    if args.num_update_checkpoints:
        return average.last_checkpoints(
            first, args.num_update_checkpoints, average.BY_UPDATE, bound
        )
    if args.num_best_checkpoints:
        return average.best_checkpoints(first, args.num_best_checkpoints)
    folder = next(filter(os.path.isdir, args.inputs), None)
    if folder is not None:
        raise AdminError(f"{folder} is a folder; choose its checkpoints with a --num option")
    return args.inputs


COMMAND = Command(_add_options, _run)
