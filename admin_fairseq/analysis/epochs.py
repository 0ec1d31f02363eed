"""Measure what every epoch of a training run changes, from its epoch checkpoints.

For the weights W_i after epoch i: the norm of the gradient of each matrix of the layers on a fixed
batch, without dropout, and of W_{i+1} − W_i (Liu et al. 2020, Figure 5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Mapping, Optional

from fairseq import checkpoint_utils
from torch import Tensor
from tqdm import tqdm

from admin_fairseq.analysis.amplification import branch_gradients, branch_matrices
from admin_fairseq.analysis.bench import Bench, Subject
from admin_fairseq.checkpoints.average import BY_EPOCH
from admin_fairseq.errors import AdminError, blaming


@dataclass(frozen=True)
class Epoch:
    """Norms of the matrices ``names``, one number for each.

    ``gradients`` are taken after epoch ``number``; ``updates`` are the changes from then to the
    next checkpoint.
    """

    number: int
    names: list[str]
    gradients: list[float]
    updates: list[float]


def epoch_checkpoints(folder: str) -> dict[int, str]:
    """Return epoch → the path of its checkpoint (checkpoint12.pt) in a run's folder, in order."""
    paths = checkpoint_utils.checkpoint_paths(folder, BY_EPOCH, keep_match=True)
    return {int(number): path for path, number in reversed(paths)}


def measured_epochs(checkpoints: Mapping[int, str], bench: Bench) -> list[Epoch]:
    """Measure the epochs between ``checkpoints`` of one run, on the bench's batch.

    Shows a progress bar. Raises AdminError if a checkpoint cannot be read or is of another model
    than the one before, or if the loss is not finite.
    """
    epochs: list[Epoch] = []
    before: Optional[tuple[int, dict[str, Tensor], list[float]]] = None
    for number, path in tqdm(checkpoints.items(), unit="epoch", disable=None, leave=False):
        specimen = bench.put(Subject(path=path))
        with blaming(path):
            weights = {n: weight.detach() for n, weight in branch_matrices(specimen.model).items()}
            if before is not None:
                epoch, earlier, gradients = before
                epochs.append(Epoch(epoch, list(weights), gradients, _changes(earlier, weights)))
            before = number, weights, [*map(_norm, branch_gradients(specimen).values())]
    return epochs


def _changes(old: Mapping[str, Tensor], new: Mapping[str, Tensor]) -> list[float]:
    """Return the norms of the changes; raise AdminError if the models differ."""
    if [(name, w.shape) for name, w in old.items()] != [(name, w.shape) for name, w in new.items()]:
        raise AdminError("its layers are not those of the epoch checkpoint before it")
    return [_norm(new[name] - weight) for name, weight in old.items()]


def _norm(tensor: Tensor) -> float:
    """Return the Euclidean norm; raise AdminError if it is not finite."""
    norm = float(tensor.norm())
    if not math.isfinite(norm):
        raise AdminError("weights or gradients are too large for their norms")
    return norm
