"""Measure the moments of what every residual connection of a model reads, in one forward pass.

Unlike ``recorder``, which sets ω on the way, this changes nothing, and works with every scheme.

Shapes: T time, B batch, C channel.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import Any, Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from admin_fairseq.hooks.recorder import Site
from admin_fairseq.hooks.trace import layers_of, stacks_of
from admin_fairseq.layers.transformer_stack import on_reference_kernels


@contextmanager
def moments_of(model: nn.Module, batch: Mapping[str, Any]) -> Iterator[dict[Site, Tensor]]:
    """Record the forward pass of ``batch`` that runs inside the block; yield where it is recorded.

    The yielded dictionary gets, for each residual sub-layer of this plugin's layers in running
    order, the number of elements, their sum and the sum of their squares, of its input and of its
    branch (2 x 3, float64). Padding does not count. Such moments can be added over workers.
    """
    found: dict[Site, Tensor] = {}
    with on_reference_kernels(model), ExitStack() as hooks:
        for name, stack in stacks_of(model).items():
            real = real_tokens(model, name, batch).double()
            for number, layer in enumerate(layers_of(stack)):
                hook = _recording(found, name, number, list(layer.residuals), real)
                for residual in set(layer.residuals.values()):
                    hooks.callback(residual.register_forward_pre_hook(hook).remove)
        yield found


def real_tokens(model: nn.Module, stack: str, batch: Mapping[str, Any]) -> Tensor:
    """Return a mask (T x B) that is True where the input of ``stack`` is not padding.

    ``stack`` is encoder or decoder; ``batch`` is one of fairseq's.
    """
    inputs = batch["net_input"]
    source = stack == "encoder" or "prev_output_tokens" not in inputs
    tokens = inputs["src_tokens" if source else "prev_output_tokens"]
    return tokens.t().ne(getattr(model, stack).dictionary.pad())


def _recording(
    found: dict[Site, Tensor], stack: str, layer: int, sublayers: list[str], real: Tensor
) -> Callable[..., None]:
    """Make a hook for the residual modules of one layer, which may share one module."""
    running = iter(sublayers)

    def record(residual: nn.Module, inputs: tuple[Tensor, Tensor]) -> None:
        found[Site(stack, layer, next(running))] = torch.stack([_moments(t, real) for t in inputs])

    return record


def _moments(tensor: Tensor, real: Tensor) -> Tensor:
    """Return number, sum and sum of squares of the elements (T x B x C) where ``real`` (T x B)."""
    kept = tensor.detach().double() * real[..., None]
    return torch.stack([real.sum() * tensor.shape[-1], kept.sum(), kept.square().sum()])
