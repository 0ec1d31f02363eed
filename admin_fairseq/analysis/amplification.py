"""Measure amplification: how much a small weight change changes the output of a stack.

A stack is an encoder or a decoder, F its output. Amplification is ‖F(x_0, W*) − F(x_0, W)‖² /
‖F(x_0, W)‖² over all tokens except padding (Liu et al. 2020, Theorem 2 and Figure 4, who plot the
numerator; the ratio makes models without a final layer norm comparable). W are the matrices of all
linear maps in all layers. W* − W has the same relative magnitude for each matrix in every model:
its root mean square is ``size`` times that of the matrix. Its direction is random (normal), or that
of a step down the loss's gradient.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import Any, Callable, Iterator

import torch
from torch import Tensor, nn

from admin_fairseq.analysis.bench import Specimen
from admin_fairseq.errors import AdminError
from admin_fairseq.hooks.trace import layers_of, stacks_of
from admin_fairseq.layers.transformer_layer import MIRRORED_WEIGHTS

Change = dict[str, Tensor]
"""Name of a matrix → W* − W, what is added to it."""


def branch_matrices(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weight matrices of the linear maps in all layers, by name.

    Admin's residual scales ω, layer norms and biases are left out.
    """
    return {
        f"{stack}.layers.{number}.{name}": weight
        for stack, module in stacks_of(model).items()
        for number, layer in enumerate(layers_of(module))
        for name, weight in layer.named_parameters()
        if weight.dim() == 2 and name not in MIRRORED_WEIGHTS
    }


def output_changes(specimen: Specimen, change: Change) -> dict[str, float]:
    """Measure how much each stack's output changes if ``change`` is added to the weights.

    A stack is the encoder or the decoder. Returns stack → ‖new − old‖² / ‖old‖²; the weights are
    restored. Raises AdminError if a result is not finite.
    """
    before = stack_outputs(specimen)
    with _changed(specimen.model, change):
        after = stack_outputs(specimen)
    changes = {
        stack: float((after[stack] - output).square().sum() / output.square().sum())
        for stack, output in before.items()
    }
    if not all(map(math.isfinite, changes.values())):
        raise AdminError(f"{specimen.label}: the change is too large, outputs are not finite")
    return changes


@torch.no_grad()
def stack_outputs(specimen: Specimen) -> dict[str, Tensor]:
    """Run the model on its batch, and return the output of each stack (float64).

    Outputs are those of all tokens except padding (N x C), after a final layer norm if there is
    one.
    """
    outputs: dict[str, Tensor] = {}

    def note(stack: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple, output: Any) -> None:
            # the encoder's output is T x B x C in a dictionary, the decoder's B x T x C in a tuple
            if stack == "encoder":
                outputs[stack] = output["encoder_out"][0][specimen.real(stack)].double()
            else:
                outputs[stack] = output[0].transpose(0, 1)[specimen.real(stack)].double()

        return hook

    handles = [
        module.register_forward_hook(note(stack))
        for stack, module in stacks_of(specimen.model).items()
    ]
    try:
        specimen.model(**specimen.batch["net_input"], features_only=True)
    finally:
        for handle in handles:
            handle.remove()
    return outputs


def branch_gradients(specimen: Specimen) -> dict[str, Tensor]:
    """Return the loss's gradient at each of ``branch_matrices``; 0 where the loss does not use it.

    Raises AdminError if the loss is not finite.
    """
    matrices = branch_matrices(specimen.model)
    found = torch.autograd.grad(specimen.loss(), list(matrices.values()), allow_unused=True)
    return {
        name: torch.zeros_like(weight) if gradient is None else gradient
        for (name, weight), gradient in zip(matrices.items(), found)
    }


def random_change(specimen: Specimen, size: float, seed: int) -> Change:
    """Draw a normal random change for every matrix, ``size`` times its root mean square.

    It is drawn on the CPU, so that it is the same for every device.
    """
    generator = torch.Generator().manual_seed(seed)
    return {
        name: _of_size(torch.randn(weight.shape, generator=generator).to(weight), weight, size)
        for name, weight in branch_matrices(specimen.model).items()
    }


def gradient_change(specimen: Specimen, size: float) -> Change:
    """Compute a step down the gradient for every matrix, ``size`` times its root mean square.

    The gradient is that of the loss; the step is zero for matrices whose gradient is zero.
    """
    matrices = branch_matrices(specimen.model)
    gradients = branch_gradients(specimen)
    return {name: _of_size(-gradients[name], weight, size) for name, weight in matrices.items()}


def _of_size(direction: Tensor, weight: Tensor, size: float) -> Tensor:
    """Scale ``direction`` to a root mean square of ``size`` times that of ``weight``."""
    length = direction.norm()
    return direction * (size * weight.detach().norm() / length if length else 0.0)


@contextmanager
@torch.no_grad()
def _changed(model: nn.Module, change: Change) -> Iterator[None]:
    """Add ``change`` to the model's weights inside a ``with`` block, and restore them after."""
    matrices = branch_matrices(model)
    kept = {name: matrices[name].clone() for name in change}
    for name, step in change.items():
        matrices[name].add_(step)
    try:
        yield
    finally:
        for name, weight in kept.items():
            matrices[name].copy_(weight)
