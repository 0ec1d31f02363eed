"""Modules that some schemes insert before a layer's linear maps."""

from __future__ import annotations

import re
from typing import Any, Callable

import torch
from fairseq.modules import LayerNorm, MultiheadAttention
from torch import Tensor, nn


class Shift(nn.Module):
    """x + b with one trainable number b, which starts at 0 (Fixup; Zhang et al. 2019).

    Here one is inserted before each linear map, and the maps keep their own bias vectors, which
    start at 0. The authors' code has no bias vectors and other scalars: a shift before q, k and v
    together (in attention to the encoder before q alone), before fc1, before ReLU and before fc2; a
    shift and a factor after the encoder, a shift after the decoder. All start as the identity.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.shift


class HeadScale(nn.Module):
    """γ_h times the output of each attention head h, before the output projection (NormFormer).

    γ has one number per head and starts at 1. Source: Shleifer et al. 2021 (NormFormer), section
    2.1. fairseq's own ``--scale-heads`` multiplies the projection's output instead, in groups of
    C/h channels, which is another model.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(heads))

    def forward(self, x: Tensor) -> Tensor:
        """Scale x, T x B x C, the heads' outputs one after the other along C."""
        return (x.unflatten(-1, (len(self.scale), -1)) * self.scale.unsqueeze(-1)).flatten(-2)


def input_norm(dim: int, heads: int) -> nn.Module:
    """Return the layer norm of a linear map's input, for ``put_before``."""
    return LayerNorm(dim)


def put_before(
    layer: nn.Module, pattern: str, build: Callable[[int, int], nn.Module], heads: int
) -> None:
    """Insert ``build(in_features, heads)`` before the linear maps whose names match ``pattern``.

    The new module becomes the map's child ``before``. Attention then calls its maps one by one,
    since torch's fused function only reads their weights and would skip the new module.
    """
    for name, linear in layer.named_modules():
        if isinstance(linear, nn.Linear) and re.fullmatch(pattern, name):
            linear.add_module("before", build(linear.in_features, heads))
            linear.register_forward_pre_hook(_through_before)
    for attention in layer.modules():
        if isinstance(attention, MultiheadAttention) and any(
            hasattr(linear, "before") for linear in attention.children()
        ):
            attention.skip_embed_dim_check = True


def _through_before(linear: Any, inputs: tuple[Tensor]) -> tuple[Tensor]:
    """Pass the input of ``linear`` through the module inserted before it (a forward pre-hook)."""
    return (linear.before(inputs[0]),)
