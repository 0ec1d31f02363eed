"""Average the weights of several checkpoints, with one file in memory at a time."""

from __future__ import annotations

import math
import os
import re
from typing import Any, Optional, Sequence

import torch
from fairseq import checkpoint_utils
from torch import Tensor

from admin_fairseq.checkpoints.storage import (
    Weights,
    check_weights,
    model_options,
    plain,
    read_checkpoint,
    without_training_state,
)
from admin_fairseq.errors import AdminError, blaming

BY_EPOCH = r"checkpoint(\d+)\.pt"
BY_UPDATE = r"checkpoint_\d+_(\d+)\.pt"
ANY = rf"{BY_EPOCH}|{BY_UPDATE}|checkpoint\.best_.*\.pt|checkpoint_(best|last)\.pt"
"""Names of checkpoints that fairseq-train writes; other files in the folder are ignored."""

SHAPELESS_OPTIONS = (
    *("encoder_attention_heads", "decoder_attention_heads"),
    *("encoder_normalize_before", "decoder_normalize_before", "activation_fn"),
)
"""Options that change what a model computes, but not the shapes of its weights."""


def average(paths: Sequence[str]) -> dict[str, Any]:
    """The last checkpoint with the mean weights of all, without optimiser state.

    Sums are in float32 (float64 for float64 weights), means in the weights' own dtype; tensors that
    are not floating point come from the last checkpoint. Raises AdminError if a checkpoint is of
    another model or not finite.
    """
    sums: Weights = {}
    first: dict[str, Any] = {}
    for path in paths:
        state: dict[str, Any] = {}  # frees the previous one before the next is read
        state = read_checkpoint(path)
        function = {name: model_options(state).get(name) for name in SHAPELESS_OPTIONS}
        first = first or function
        if function != first:
            raise AdminError(f"{path}: not the model of {paths[0]}: {function}, there {first}")
        with blaming(path):
            _add(sums, state["model"])
    last: Weights = state["model"]
    means = {
        name: sums.pop(name).div_(len(paths)).to(weight.dtype) if name in sums else weight
        for name, weight in last.items()
    }
    averaged = {**without_training_state(state), "model": _tied_as(last, means)}
    averaged["extra_state"]["val_loss"] = None  # the mean has not been validated
    return averaged


def _add(sums: Weights, weights: Weights) -> None:
    check_weights(weights)
    floating = {name: weight for name, weight in weights.items() if weight.is_floating_point()}
    odd = sorted(sums.keys() ^ floating.keys()) if sums else []
    if odd:
        where = "is missing" if odd[0] in sums else "is not in the earlier checkpoints"
        raise AdminError(f"another model: {odd[0]} {where}")
    for name, weight in floating.items():
        if name not in sums:
            dtype = torch.promote_types(weight.dtype, torch.float32)
            sums[name] = weight.to(dtype, copy=True)
        elif sums[name].shape == weight.shape:
            sums[name].add_(weight)
        else:
            shapes = f"{tuple(weight.shape)}, in earlier ones {tuple(sums[name].shape)}"
            raise AdminError(f"another model: {name} is {shapes}")


def _tied_as(tied: Weights, weights: Weights) -> Weights:
    """``weights``, sharing one tensor between the names that share one in ``tied``."""
    first: dict[tuple[int, torch.Size], Tensor] = {}
    result: Weights = {}
    for name, weight in weights.items():
        same = first.setdefault((tied[name].data_ptr(), weight.shape), weight)
        result[name] = same if torch.equal(same, weight) else weight
    return result


def last_checkpoints(
    folder: str, count: int, pattern: str, upper_bound: Optional[int] = None
) -> list[str]:
    """The last ``count`` by epoch or update, up to ``upper_bound`` inclusive, oldest first."""
    found = [
        path
        for path, number in checkpoint_utils.checkpoint_paths(
            _folder(folder), pattern, keep_match=True
        )
        if upper_bound is None or number <= upper_bound
    ]
    return _enough(found, count, folder)[::-1]


def best_checkpoints(folder: str, count: int) -> list[str]:
    """The ``count`` best by the validation score saved in each, the best one last.

    A checkpoint that is there under several names (checkpoint_best.pt) counts once.
    """
    costs: dict[int, tuple[float, str]] = {}  # number of updates → what to minimise, file
    for name in sorted(os.listdir(_folder(folder))):
        if not re.fullmatch(ANY, name):
            continue
        path = os.path.join(folder, name)
        state = read_checkpoint(path)
        score = (state.get("extra_state") or {}).get("val_loss")
        score = plain(score)  # it may be a number of numpy
        history = state.get("optimizer_history")
        if not isinstance(score, (int, float, type(None))):
            raise AdminError(f"{path}: damaged checkpoint: its val_loss is {score!r}")
        if score is not None and math.isfinite(score) and history:
            cost = -score if _maximizes(state) else score
            costs.setdefault(history[-1].get("num_updates", 0), (cost, path))
    ranked = sorted(costs.items(), key=lambda item: (item[1][0], -item[0]))  # then the later
    return _enough([path for _, (_, path) in ranked], count, folder)[::-1]


def _maximizes(state: dict[str, Any]) -> bool:
    in_cfg = (state.get("cfg") or {}).get("checkpoint") or {}
    options = vars(state["args"]) if state.get("args") else in_cfg
    return bool(options.get("maximize_best_checkpoint_metric"))


def _folder(folder: str) -> str:
    if not os.path.isdir(folder):
        raise AdminError(f"{folder}: not a folder of checkpoints")
    return folder


def _enough(paths: list[str], count: int, folder: str) -> list[str]:
    if len(paths) < count:
        raise AdminError(f"{folder}: {count} checkpoints were requested, it has {len(paths)}")
    return paths[:count]
