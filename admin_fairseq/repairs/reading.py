"""Read fairseq's checkpoints without running code, detect damage, report errors in one line.

Seen in fairseq 0.12.2 and fairseq-fixed 0.12.3.1 (``checkpoint_utils``): fairseq reads files by
``torch.load`` with its default arguments, and raises a KeyError or TypeError for a file of torch
that is no checkpoint.
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
    """Patch fairseq to read checkpoints through ``load``, and let torch load fairseq's plain types.

    Extending torch's allow-list (torch 2.6 and later) is for users' scripts that call
    ``torch.load``, and for objects that torch copies between workers.
    """
    if unpickling.KEEPS_AN_ALLOW_LIST:
        torch.serialization.add_safe_globals(unpickling.allowed_types())
    checkpoint_utils.torch = StandIn(checkpoint_utils.torch, load=load)
    checkpoint_utils.load_checkpoint_to_cpu = _reporting(checkpoint_utils.load_checkpoint_to_cpu)


def load(file: BinaryIO, map_location: Any = None) -> dict[str, Any]:
    """Read a checkpoint from an open file to the CPU, without running code that it contains.

    Takes the place of ``torch.load`` in fairseq; ``map_location`` is ignored. Raises AdminError if
    the file is not a checkpoint, is damaged, or would run code.
    """
    with blaming(file.name):
        state = unpickling.load(file)
        evaluated_options.check(state)
        if not (isinstance(state, dict) and isinstance(state.get("model"), Mapping)):
            raise AdminError("not a checkpoint of fairseq (it holds no model)")
    _complete_old_options(state)
    return state


def _complete_old_options(state: dict[str, Any]) -> None:
    """Add, in place, an option that checkpoints of an earlier version of this plugin lack.

    Sub-LN then always had its second layer norm in encoder-decoder attention too; today this needs
    the option --subln-in-encoder-attention.
    """
    norm = ".encoder_attn.out_proj.before.weight"
    options = state["cfg"].get("model") if isinstance(state.get("cfg"), dict) else None
    if isinstance(options, dict) and any(str(name).endswith(norm) for name in state["model"]):
        options["subln_in_encoder_attention"] = True


def read(path: str) -> dict[str, Any]:
    """Read the checkpoint in the file ``path``, by ``load``.

    Raises AdminError if the file cannot be read, is not a checkpoint, is damaged, or would run
    code.
    """
    try:
        with open_regular(path) as file:
            return load(file)
    except OSError as error:
        raise AdminError(f"{path}: cannot be read: {error.strerror or error}") from None


def _reporting(reader: Callable[..., dict]) -> Callable[..., dict]:
    """Wrap ``load_checkpoint_to_cpu`` to raise AdminError for files that are no checkpoints.

    The wrapper also records in the returned options from which file they were read.
    """

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
