"""Read and write checkpoints as dictionaries."""

from __future__ import annotations

import argparse
import warnings
from typing import Any, Callable, Mapping

import numpy as np
import torch
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.registry import REGISTRIES
from omegaconf import OmegaConf
from torch import Tensor

from admin_fairseq.errors import AdminError, shortened
from admin_fairseq.files import replacing
from admin_fairseq.repairs import reading
from admin_fairseq.repairs.saving import save

Weights = dict[str, Tensor]
"""A model's state dict: name → tensor."""


def read_checkpoint(path: str) -> dict[str, Any]:
    """Read the checkpoint in the file ``path`` and check that its parts have the expected types.

    The whole file is read, not memory-mapped, as a training run may replace it at any time. Raises
    AdminError if it is not a checkpoint of fairseq, is damaged, or might run code.
    """
    state = reading.read(path)
    weights = state["model"]
    if not weights:
        raise AdminError(f"{path}: not a checkpoint of fairseq (it holds no model)")
    odd = next((part for part, holds in PARTS.items() if not holds(state.get(part))), None)
    if odd is not None:
        raise AdminError(f"{path}: damaged checkpoint: {odd} is not what fairseq stores there")
    for name, weight in weights.items():
        if not (isinstance(name, str) and _is_weight(weight)):
            raise AdminError(f"{path}: damaged checkpoint: {name} is not a tensor of numbers")
        if name.endswith("embed_tokens.weight") and weight.dim() != 2:
            raise AdminError(f"{path}: damaged checkpoint: {name} is not a table of embeddings")
    if not (state.get("args") or (state.get("cfg") or {}).get("model")):
        raise AdminError(f"{path}: not a checkpoint of fairseq (it does not say which model)")
    if not isinstance(model_options(state)["_name"], str):
        raise AdminError(f"{path}: damaged checkpoint: it does not name its architecture")
    return state


def _is_weight(value: Any) -> bool:
    """Return whether ``value`` is an ordinary tensor of numbers that stores each of its elements.

    A view can have 10^9 rows that are one row in memory, until something computes with it.
    """
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not (value.is_complex() or value.is_quantized)
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )


def _optional(*kinds: type) -> Callable[[Any], bool]:
    """Return a function that tells whether a value is None or of one of the types ``kinds``."""
    return lambda value: value is None or isinstance(value, kinds)


OPTIONS = _optional(dict, argparse.Namespace)
PARTS: dict[str, Callable[[Any], bool]] = {
    "args": _optional(argparse.Namespace),
    "cfg": lambda cfg: _optional(dict)(cfg) and all(map(OPTIONS, (cfg or {}).values())),
    "extra_state": _optional(dict),
    "optimizer_history": lambda history: (
        _optional(list)(history) and all(isinstance(entry, dict) for entry in history or [])
    ),
}
"""Key of a checkpoint → test that a value is None or of the type that fairseq stores there."""


def write_checkpoint(state: Mapping[str, Any], path: str, force: bool = True) -> None:
    """Convert ``state`` to plain types and write it to ``path``, the old file remaining on failure.

    Raises AdminError if the file cannot be written, or exists and ``force`` is not set.
    """
    with replacing(path, force) as file:
        save(plain(state), file)


def plain(value: Any) -> Any:
    """Convert ``value``, and all values in it, to types that torch loads without an allow-list."""
    if isinstance(value, argparse.Namespace):
        value = vars(value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value)
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return value


def check_weights(weights: Weights) -> None:
    """Raise AdminError if a weight is not finite, or a residual scale ω has a zero element.

    ``_float_tensor`` is skipped: fairseq 0.12.2 leaves its values uninitialised and uses its dtype.
    """
    for name, weight in weights.items():
        if name.endswith("._float_tensor"):
            continue
        if weight.is_floating_point() and not weight.isfinite().all():
            raise AdminError(f"{name} is not finite everywhere")
        if name.endswith(".omega") and not weight.all():
            raise AdminError(f"{name} is zero somewhere")


def model_options(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the model's options in a checkpoint, flat; ``_name`` is the architecture."""
    options = plain(state.get("args") or state["cfg"]["model"])
    return {**options, "_name": options.get("_name") or options.get("arch")}


def run_options(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a checkpoint's whole run, in plain types.

    Options that fairseq before 0.10 wrote ("args") are converted to today's nested form. Raises
    AdminError if fairseq cannot convert them.
    """
    if not state.get("args"):
        return plain(state.get("cfg"))
    try:
        args = argparse.Namespace(**dict(filter(_is_registered, vars(state["args"]).items())))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # hydra warns about how fairseq calls it
            nested = convert_namespace_to_omegaconf(args)
        return plain(OmegaConf.to_container(nested, resolve=True, enum_to_str=True))
    except Exception as error:  # hydra, omegaconf and Python raise anything
        reason = shortened(" ".join(str(error).split()), 200)
        raise AdminError(f"the options of its run are damaged: {reason}") from None


def _is_registered(option: tuple[str, Any]) -> bool:
    """Return whether the installed fairseq has what ``option``, a pair (name, value), selects.

    False for, say, --optimizer with an optimiser of another version of fairseq.
    """
    name, value = option
    return name not in REGISTRIES or value is None or str(value) in REGISTRIES[name]["registry"]


def without_training_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of the checkpoint ``state`` without what is valid only for exactly its weights.

    That is the optimiser's state, moving averages of the weights (EMA) and training statistics.
    """
    kept = {key: value for key, value in state.items() if key != "last_optimizer_state"}
    extra = state.get("extra_state") or {}
    dropped = {"ema", "ema_fp32_params", "metrics", "train_meters"}
    kept["extra_state"] = {key: value for key, value in extra.items() if key not in dropped}
    return kept
