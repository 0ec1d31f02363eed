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
"""Matches the names of checkpoints that fairseq-train writes; other files are ignored."""

SHAPELESS_OPTIONS = (
    *("encoder_attention_heads", "decoder_attention_heads"),
    *("encoder_normalize_before", "decoder_normalize_before", "activation_fn"),
    *("no_scale_embedding", "no_token_positional_embeddings"),
)
"""Names of options that change what a model computes, but not the shapes of its weights."""


def average(paths: Sequence[str]) -> dict[str, Any]:
    """Return the last checkpoint in ``paths`` with the mean weights of all of them.

    Optimiser state is left out. Sums are in float32 (float64 for float64 weights), means in the
    weights' own dtype; tensors that are not floating point come from the last checkpoint. Raises
    AdminError if a checkpoint holds another model or weights that are not finite.
    """
    sums: Weights = {}
    first: dict[str, Any] = {}
    for path in paths:
        state: dict[str, Any] = {}  # frees the previous one before the next is read
        state = read_checkpoint(path)
        function = {name: model_options(state).get(name) for name in SHAPELESS_OPTIONS}
        first = first or function
        if function != first:
            raise AdminError(f"{path}: not the model of {paths[0]}: {function}, not {first}")
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
    """Add ``weights`` of one checkpoint to ``sums``, in place; an empty ``sums`` becomes a copy.

    Raises AdminError if their names or shapes differ, or a weight is not finite.
    """
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
    """Return ``weights``, where names that share one tensor in ``tied`` share one again.

    Averaging makes a tensor for each name; equal ones are stored once, as before.
    """
    first: dict[tuple[int, torch.Size], Tensor] = {}
    result: Weights = {}
    for name, weight in weights.items():
        same = first.setdefault((tied[name].data_ptr(), weight.shape), weight)
        result[name] = same if torch.equal(same, weight) else weight
    return result


def last_checkpoints(
    folder: str, count: int, pattern: str, upper_bound: Optional[int] = None
) -> list[str]:
    """Return the paths of the last ``count`` checkpoints in ``folder``, oldest first.

    ``pattern`` matches the names of files and their number of epochs or updates, which must not
    exceed ``upper_bound``. Raises AdminError if there are fewer.
    """
    found = [
        path
        for path, number in checkpoint_utils.checkpoint_paths(
            _folder(folder), pattern, keep_match=True
        )
        if upper_bound is None or number <= upper_bound
    ]
    return _enough(found, count, folder)[::-1]


def best_checkpoints(folder: str, count: int) -> list[str]:
    """Return the ``count`` checkpoints with the best saved validation scores, the best one last.

    One checkpoint under several names (checkpoint_best.pt) is listed once. Of equal scores the
    later one is better. Raises AdminError if there are fewer than ``count``.
    """
    costs: dict[int, tuple[float, str]] = {}  # number of updates → what to minimise, file
    for name in sorted(os.listdir(_folder(folder))):
        if not re.fullmatch(ANY, name):
            continue
        path = os.path.join(folder, name)
        state = read_checkpoint(path)
        score = (state.get("extra_state") or {}).get("val_loss")
        score = plain(score)  # it may be a number of numpy
        updates = plain((state.get("optimizer_history") or [{}])[-1]).get("num_updates")
        if not isinstance(score, (int, float, type(None))):
            raise AdminError(f"{path}: damaged checkpoint: its val_loss is {score!r}")
        if not isinstance(updates, (int, type(None))):
            raise AdminError(f"{path}: damaged checkpoint: its num_updates is {updates!r}")
        if score is not None and math.isfinite(score) and updates is not None:
            costs.setdefault(updates, (-score if _maximizes(state) else score, path))
    ranked = sorted(costs.items(), key=lambda item: (item[1][0], -item[0]))  # then the later
    return _enough([path for _, (_, path) in ranked], count, folder)[::-1]


def _maximizes(state: dict[str, Any]) -> bool:
    """Return whether the run of this checkpoint had --maximize-best-checkpoint-metric."""
    options = plain(state.get("args") or (state.get("cfg") or {}).get("checkpoint") or {})
    return bool(options.get("maximize_best_checkpoint_metric"))


def _folder(folder: str) -> str:
    """Return ``folder``; raise AdminError if it is not a folder."""
    if not os.path.isdir(folder):
        raise AdminError(f"{folder}: not a folder of checkpoints")
    return folder


def _enough(paths: list[str], count: int, folder: str) -> list[str]:
    """Return the first ``count`` of ``paths``; raise AdminError if there are fewer."""
    if len(paths) < count:
        raise AdminError(f"{folder}: {count} checkpoints were requested, but it has {len(paths)}")
    return paths[:count]
