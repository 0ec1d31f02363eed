"""fairseq's reading of checkpoints: nothing is run, damage is noticed, errors are one line.

Seen in fairseq 0.12.2 and fairseq-fixed 0.12.3.1 (``checkpoint_utils``): ``torch.load`` with its
defaults, and KeyError or TypeError for what is another file of torch.
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
    """Let fairseq read checkpoints through ``load``; torch's allow-list takes fairseq's types.

    The allow-list is for scripts of users, and for what torch itself copies between workers.
    """
    if unpickling.KEEPS_AN_ALLOW_LIST:
        torch.serialization.add_safe_globals(unpickling.allowed_types())
    checkpoint_utils.torch = StandIn(checkpoint_utils.torch, load=load)
    checkpoint_utils.load_checkpoint_to_cpu = _telling(checkpoint_utils.load_checkpoint_to_cpu)


def load(file: BinaryIO, map_location: Any = None) -> dict[str, Any]:
    """In place of ``torch.load``, for an open file: always on the CPU, and only data.

    Raises AdminError for what is no checkpoint, is damaged, or would run code.
    """
    with blaming(file.name):
        state = unpickling.load(file)
        evaluated_options.check(state)
        if not (isinstance(state, dict) and isinstance(state.get("model"), Mapping)):
            raise AdminError("not a checkpoint of fairseq (it holds no model)")
    _say_what_weights_show(state)
    return state


def _say_what_weights_show(state: dict[str, Any]) -> None:
    """Complete, in place, the options of a checkpoint of an earlier version of this plugin.

    It had Sub-LN's second norm in attention to the encoder too, before there was an option for it.
    """
    norm = ".encoder_attn.out_proj.before.weight"
    options = state["cfg"].get("model") if isinstance(state.get("cfg"), dict) else None
    if isinstance(options, dict) and any(str(name).endswith(norm) for name in state["model"]):
        options["subln_in_encoder_attention"] = True


def read(path: str) -> dict[str, Any]:
    """The content of the file ``path``.

    Raises AdminError where it cannot be read, and as ``load`` does.
    """
    try:
        with open_regular(path) as file:
            return load(file)
    except OSError as error:
        raise AdminError(f"{path}: cannot be read: {error.strerror or error}") from None


def _telling(reader: Callable[..., dict]) -> Callable[..., dict]:
    """fairseq's ``load_checkpoint_to_cpu``, its errors told in one line."""

    @functools.wraps(reader)
    def load_checkpoint_to_cpu(
        path: str, arg_overrides: Optional[dict[str, Any]] = None, load_on_all_ranks: bool = False
    ) -> dict:
        # A configuration read from a checkpoint says itself where its weights are, so that a
        # model built from it needs no profile: see starting.
        overrides = {**(arg_overrides or {}), "restore_file": os.path.abspath(path)}
        overrides["checkpoint_suffix"] = ""  # which is in the path already
        try:
            if os.path.lexists(path):
                open_regular(path).close()  # a FIFO would keep fairseq waiting
            return reader(path, overrides, load_on_all_ranks)
        except OSError as error:
            raise AdminError(f"{path}: cannot be read: {error.strerror or error}") from None
        except (AttributeError, LookupError, TypeError):
            raise AdminError(f"{path}: not a checkpoint of fairseq, or a damaged one") from None

    return load_checkpoint_to_cpu
