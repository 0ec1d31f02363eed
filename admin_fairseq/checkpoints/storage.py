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
"""A state dict: name → tensor."""


def read_checkpoint(path: str) -> dict[str, Any]:
    """The checkpoint in the file ``path``.

    Read as a whole, not memory-mapped: a training run may replace the file at any time. Raises
    AdminError if it is not a checkpoint of fairseq, is damaged, or might run code.
    """
    state = reading.read(path)
    weights = state["model"]
    if not weights:
        raise AdminError(f"{path}: not a checkpoint of fairseq (it holds no model)")
    odd = next((part for part, holds in PARTS.items() if not holds(state.get(part))), None)
    if odd is not None:
        raise AdminError(f"{path}: damaged checkpoint: {odd} is not what fairseq keeps there")
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
    """Whether ``value`` is an ordinary tensor that stores each of its elements.

    A view can have 10^9 rows that are one row in memory, until something computes with it.
    """
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not (value.is_complex() or value.is_quantized)
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )


def _holds(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: value is None or isinstance(value, kinds)


OPTIONS = _holds(dict, argparse.Namespace)
PARTS: dict[str, Callable[[Any], bool]] = {
    "args": _holds(argparse.Namespace),
    "cfg": lambda cfg: _holds(dict)(cfg) and all(map(OPTIONS, (cfg or {}).values())),
    "extra_state": _holds(dict),
    "optimizer_history": lambda history: (
        _holds(list)(history) and all(map(_holds(dict), history or []))
    ),
}
"""Part of a checkpoint → whether a value is None or of the type that fairseq stores there."""


def write_checkpoint(state: Mapping[str, Any], path: str, force: bool = True) -> None:
    """Write ``state`` in plain types, whole or not at all.

    Raises AdminError if it cannot be written, or ``path`` exists without ``force``.
    """
    with replacing(path, force) as file:
        save(plain(state), file)


def plain(value: Any) -> Any:
    """``value`` converted to types that torch loads without an allow-list."""
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
    """Raise AdminError that names a weight that is not finite, or an ω that is zero.

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
    """The options of the model in a checkpoint, flat; ``_name`` is its architecture."""
    options = plain(state.get("args") or state["cfg"]["model"])
    return {**options, "_name": options.get("_name") or options.get("arch")}


def run_options(state: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of the whole run in plain types, converted if fairseq < 0.10 wrote it.

    Raises AdminError if fairseq cannot convert it.
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
    """False for what this fairseq does not have, such as an optimiser of another version."""
    name, value = option
    return name not in REGISTRIES or value is None or str(value) in REGISTRIES[name]["registry"]


def without_training_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """``state`` without what belongs to its parameters: optimiser state, averages, statistics."""
    kept = {key: value for key, value in state.items() if key != "last_optimizer_state"}
    extra = state.get("extra_state") or {}
    dropped = {"ema", "ema_fp32_params", "metrics", "train_meters"}
    kept["extra_state"] = {key: value for key, value in extra.items() if key not in dropped}
    return kept
