"""fairseq reads checkpoints without running code, detects damage, reports errors in one line.

Seen in fairseq 0.12.2 and fairseq-fixed 0.12.3.1 (``checkpoint_utils``): ``torch.load`` with its
defaults, and a KeyError or TypeError for other files of torch.
"""

from __future__ import annotations

import functools
import os
from typing import Any, BinaryIO, Callable, Mapping, Optional

import torch
from fairseq import checkpoint_utils

from admin_fairseq.errors import AdminError, blaming
from admin_fairseq.files import open_regular
from admin_fairseq.repairs import evaluated_options, unpickling
from admin_fairseq.repairs.stand_in import StandIn


def apply() -> None:
    """Let fairseq read checkpoints through ``load``, and add fairseq's types to torch's allow-list.

    The allow-list is for users' scripts, and for what torch copies between workers.
    """
    if unpickling.KEEPS_AN_ALLOW_LIST:
        torch.serialization.add_safe_globals(unpickling.allowed_types())
    checkpoint_utils.torch = StandIn(checkpoint_utils.torch, load=load)
    checkpoint_utils.load_checkpoint_to_cpu = _reporting(checkpoint_utils.load_checkpoint_to_cpu)


def load(file: BinaryIO, map_location: Any = None) -> dict[str, Any]:
    """Replaces ``torch.load`` for an open file: always on the CPU, and only data.

    Raises AdminError if it is not a checkpoint, is damaged, or would run code.
    """
    with blaming(file.name):
        state = unpickling.load(file)
        evaluated_options.check(state)
        if not (isinstance(state, dict) and isinstance(state.get("model"), Mapping)):
            raise AdminError("not a checkpoint of fairseq (it holds no model)")
    _complete_old_options(state)
    return state


def _complete_old_options(state: dict[str, Any]) -> None:
    """Complete, in place, the options of a checkpoint of an earlier version of this plugin.

    Sub-LN had its second norm in attention to the encoder too, before there was an option for it.
    """
    norm = ".encoder_attn.out_proj.before.weight"
    options = state["cfg"].get("model") if isinstance(state.get("cfg"), dict) else None
    if isinstance(options, dict) and any(str(name).endswith(norm) for name in state["model"]):
        options["subln_in_encoder_attention"] = True


def read(path: str) -> dict[str, Any]:
    """The content of the file ``path``.

    Raises AdminError if it cannot be read, and as ``load`` does.
    """
    try:
        with open_regular(path) as file:
            return load(file)
    except OSError as error:
        raise AdminError(f"{path}: cannot be read: {error.strerror or error}") from None


def _reporting(reader: Callable[..., dict]) -> Callable[..., dict]:
    """fairseq's ``load_checkpoint_to_cpu`` with errors in one line."""

    @functools.wraps(reader)
    def load_checkpoint_to_cpu(
        path: str, arg_overrides: Optional[dict[str, Any]] = None, load_on_all_ranks: bool = False
    ) -> dict:
        # A configuration read from a checkpoint records where its weights are, so that a model
        # built from it needs no profile: see starting.
        overrides = {**(arg_overrides or {}), "restore_file": os.path.abspath(path)}
        overrides["checkpoint_suffix"] = ""  # which the path already contains
        try:
            if os.path.lexists(path):
                open_regular(path).close()  # fairseq would block on a FIFO
            return reader(path, overrides, load_on_all_ranks)
        except OSError as error:
            raise AdminError(f"{path}: cannot be read: {error.strerror or error}") from None
        except (AttributeError, LookupError, TypeError):
            raise AdminError(f"{path}: not a checkpoint of fairseq, or a damaged one") from None

    return load_checkpoint_to_cpu
