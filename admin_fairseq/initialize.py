"""Initialisation as data: a table of (parameter names → rule), applied to a built model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Callable, Iterable

import torch
from torch import Tensor, nn

Formula = Callable[[int, int], float]
"""A number from the depths (N encoder layers, M decoder layers)."""


@dataclass(frozen=True)
class Rule:
    """What happens to every parameter whose whole name matches ``pattern``."""

    pattern: str

    def apply(self, weight: Tensor, encoder_layers: int, decoder_layers: int) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class XavierUniform(Rule):
    """U(-a, a), a = sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""

    def apply(self, weight: Tensor, encoder_layers: int, decoder_layers: int) -> None:
        nn.init.xavier_uniform_(weight)


@dataclass(frozen=True)
class XavierNormal(Rule):
    """N(0, gain² · 2 / (fan_in + fan_out)), gain = ``gain(N, M)`` (Glorot and Bengio 2010)."""

    gain: Formula

    def apply(self, weight: Tensor, encoder_layers: int, decoder_layers: int) -> None:
        nn.init.xavier_normal_(weight, gain=self.gain(encoder_layers, decoder_layers))


@dataclass(frozen=True)
class Mirror(Rule):
    """The second half along dimension ``dim`` becomes the first half's negative."""

    dim: int

    def apply(self, weight: Tensor, encoder_layers: int, decoder_layers: int) -> None:
        size = weight.size(self.dim)
        half = size // 2  # an odd one in the middle stays
        second = weight.narrow(self.dim, size - half, half)
        second.copy_(-weight.narrow(self.dim, 0, half))


@dataclass(frozen=True)
class Zero(Rule):
    def apply(self, weight: Tensor, encoder_layers: int, decoder_layers: int) -> None:
        nn.init.zeros_(weight)


@dataclass(frozen=True)
class Scale(Rule):
    """Multiply what stands there by ``factor(N, M)``."""

    factor: Formula

    def apply(self, weight: Tensor, encoder_layers: int, decoder_layers: int) -> None:
        weight.mul_(self.factor(encoder_layers, decoder_layers))


@torch.no_grad()
def initialize(
    model: nn.Module, rules: Iterable[Rule], encoder_layers: int, decoder_layers: int
) -> None:
    """Apply ``rules`` in order, in place; a parameter shared under two names counts once."""
    parameters = list(model.named_parameters())
    for rule in rules:
        for name, weight in parameters:
            if re.fullmatch(rule.pattern, name):
                rule.apply(weight, encoder_layers, decoder_layers)
