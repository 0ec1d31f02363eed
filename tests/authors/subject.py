"""What both sides compute: models of these sizes, with these weights, on this batch.

Everything here is a pure function of names and sizes, in numbers that no version of Python changes,
so that the authors' side and ours need nothing of one another.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from math import prod
from typing import Sequence

import torch
from torch import Tensor

DEPTHS = [(6, 6), (18, 18), (12, 3)]
"""(N, M) of the models whose weights at the start are looked at."""

SUBLAYERS = [12, 1, 2, 3, 9, 18, 24, 36, 54, 200, 300, 1000]
"""Numbers of a stack's sub-layers of which constants are compared; those of ``DEPTHS`` too."""

DRAWN = {"embed_dim": 64, "ffn_embed_dim": 128, "attention_heads": 2}
TYPES_DRAWN = 2000
"""Sizes of these models, of encoder and decoder alike; the dictionary has its four symbols too."""

COMPUTED = {"embed_dim": 8, "ffn_embed_dim": 12, "attention_heads": 2}
TYPES_COMPUTED = 12
DEPTHS_COMPUTED = (3, 2)
"""The model whose logits are compared."""

BOS, PAD, EOS, UNK = 0, 1, 2, 3  # fairseq's numbers
SOURCE = torch.tensor([[5, 9, 4, 11, 2], [1, 1, 7, 6, 2]])  # padded on the left, as fairseq does
LENGTHS = torch.tensor([5, 3])
PREVIOUS = torch.tensor([[2, 8, 10, 1], [2, 4, 15, 6]])

UPDATES = 50
"""Steps of an optimiser that are compared."""


def weights(name: str, shape: tuple[int, ...]) -> Tensor:
    """Of a parameter that we call ``name``: float64, U(-½, ½); around 1 for what multiplies."""
    draw = random.Random(name)
    values = [draw.uniform(-0.5, 0.5) for _ in range(prod(shape))]
    return torch.tensor(values, dtype=torch.float64).view(shape) + neutral(name)


def neutral(name: str) -> float:
    """What a parameter is where it changes nothing: 1 if it multiplies, 0 if it is added."""
    multiplies = r"(norm\w*|norms\.\d+|before|scale\d)\.weight$|\.(omega|alpha)$"
    return float(bool(re.search(multiplies, name)))


def summands() -> tuple[Tensor, Tensor]:
    """What a residual connection adds: its input and its branch."""
    return weights("x", (2, 8)), weights("branch", (2, 8))


def among(name: str, patterns: Sequence[str]) -> bool:
    return any(re.search(pattern, name) for pattern in patterns)


def gradient(step: int) -> Tensor:
    """Of three weights in an optimiser's step, counted from 1."""
    draw = random.Random(f"gradient {step}")
    return torch.tensor([draw.uniform(-1, 1) for _ in range(3)], dtype=torch.float64)


def at_the_start() -> Tensor:
    """These weights before the first step."""
    return torch.tensor([1.0, -0.5, 0.25], dtype=torch.float64)


def pooled(parameters: dict[str, Tensor]) -> dict[str, list[float]]:
    """Name without the layer's number → mean, standard deviation and largest size of all layers."""
    groups: dict[str, list[Tensor]] = {}
    for name, value in parameters.items():
        if name.endswith("embed_tokens.weight"):
            value = value[EOS:]  # padding's row is zero
        groups.setdefault(in_any_layer(name), []).append(value)
    found = {}
    for name, values in groups.items():
        every = torch.cat([value.detach().double().flatten() for value in values])
        found[name] = [
            float(f"{number:.6g}")
            for number in (every.mean(), every.std(unbiased=False), every.abs().max())
        ]
    return found


def counted(parameters: dict[str, Tensor]) -> Counter[str]:
    """How many numbers ``pooled`` puts together, under the same names."""
    counts: Counter[str] = Counter()
    for name, value in parameters.items():
        counts[in_any_layer(name)] += value.numel()
    return counts


def in_any_layer(name: str) -> str:
    return re.sub(r"\.layers\.\d+\.", ".layers.*.", name)
