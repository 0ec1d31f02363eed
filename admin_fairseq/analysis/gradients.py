"""Measure gradients and updates, layer by layer.

At one point, without dropout: ‖∂L/∂x_i‖₂ for the output x_i of every sub-layer (Liu et al. 2020,
Figure 3). During training, with dropout: the norms of gradient and update of every matrix in every
layer, in each of the first updates (Figure 5 there, and the figures of Huang et al. 2020, T-Fixup).
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Iterator, NoReturn, Optional, Sequence

import torch
from fairseq.logging import metrics
from fairseq.trainer import Trainer
from torch import Tensor, nn

from admin_fairseq.analysis.amplification import branch_matrices
from admin_fairseq.analysis.bench import Specimen
from admin_fairseq.errors import AdminError
from admin_fairseq.fairseq_runs import first_batches, naming_errors
from admin_fairseq.hooks.trace import traced


def output_gradients(specimen: Specimen) -> dict[str, list[float]]:
    """Compute ‖∂L/∂x_i‖₂ for the outputs x_i of each stack's sub-layers i = 1, 2, ….

    L is the loss per token. Returns stack (encoder, decoder) → norms.
    """
    with traced(specimen.model) as trace:
        loss = specimen.loss()
    outputs = {name: [s.output for s in stack.sublayers] for name, stack in trace.items()}
    every = [x for xs in outputs.values() for x in xs]
    gradients = iter(torch.autograd.grad(loss, every, allow_unused=True))
    return {name: [_norm(next(gradients)) for _ in xs] for name, xs in outputs.items()}


def _norm(gradient: Optional[Tensor]) -> float:
    """Return the gradient's norm, or 0 for None, as the loss does not depend on the output then."""
    return 0.0 if gradient is None else float(gradient.norm())


def relative(norms: Sequence[float]) -> list[float]:
    """Divide each norm by the largest; returns zeros if the largest is zero."""
    largest = max(norms)
    return [norm / largest if largest else 0.0 for norm in norms]


@dataclass
class Steps:
    """Norms recorded in the first updates of training: one list per update, one number per matrix.

    ``names`` are those of the matrices.
    """

    names: list[str]
    weights: list[list[float]] = field(default_factory=list)
    gradients: list[list[float]] = field(default_factory=list)
    updates: list[list[float]] = field(default_factory=list)


def train_steps(specimen: Specimen, count: int, progress: Any = lambda items: items) -> Steps:
    """Train the model with fairseq's Trainer; returns norms of weights, gradients and updates.

    Training makes ``count`` updates, changes the model in place, and uses the first batches of the
    training data; ``progress`` wraps the batches to show progress. Raises AdminError if training
    diverges.
    """
    run, task, model = specimen.run, specimen.task, specimen.model
    batches = first_batches(task, run, count)
    with metrics.aggregate(new_root=True):
        with naming_errors(specimen.label, "train"):
            trainer = Trainer(run, task, model, specimen.criterion)
            optimizer = trainer.optimizer.optimizer
        trainer.save_checkpoint = partial(_give_up, specimen.label)  # called when an update fails
        matrices = branch_matrices(model)
        steps = Steps(list(matrices))
        with _watched(optimizer, matrices, steps):
            for batch in progress(batches):
                trainer.train_step([batch])
    _check(steps, specimen.label, count)
    return steps


@contextmanager
def _watched(
    optimizer: torch.optim.Optimizer, matrices: dict[str, nn.Parameter], steps: Steps
) -> Iterator[None]:
    """Record norms of weights, gradients and updates in ``steps`` during a ``with`` block."""
    before: list[Tensor] = []

    @torch.no_grad()
    def begin(*_: Any) -> None:
        before[:] = [weight.detach().clone() for weight in matrices.values()]
        steps.weights.append(_norms(before))
        gradients = [w.new_zeros(1) if w.grad is None else w.grad for w in matrices.values()]
        steps.gradients.append(_norms(gradients))  # a layer that LayerDrop left out has none

    @torch.no_grad()
    def end(*_: Any) -> None:
        steps.updates.append(_norms([w - old for w, old in zip(matrices.values(), before)]))

    handles = [
        optimizer.register_step_pre_hook(begin),
        optimizer.register_step_post_hook(end),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _give_up(label: str, *_: Any) -> NoReturn:
    """Raise AdminError; replaces the Trainer's saving of a checkpoint when an update fails."""
    raise AdminError(f"{label}: gradients are not finite")


def _norms(tensors: Sequence[Tensor]) -> list[float]:
    """Return the tensors' norms, computed in float32."""
    return torch.stack([tensor.float().norm() for tensor in tensors]).tolist()


def _check(steps: Steps, label: str, count: int) -> None:
    """Raise AdminError if updates are missing or norms are not finite."""
    if len(steps.updates) < count:
        raise AdminError(f"{label}: made {len(steps.updates)} of {count} updates")
    for norms in (*steps.gradients, *steps.updates):
        if not all(map(math.isfinite, norms)):
            raise AdminError(f"{label}: gradients or updates are not finite")
