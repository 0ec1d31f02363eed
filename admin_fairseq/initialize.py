"""Initialisation as data: a table of (parameter names → rule), applied to a built model."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Callable, Iterable, NamedTuple

import torch
from torch import Tensor, nn

from admin_fairseq.formulas import Formula

logger = logging.getLogger(__name__)


class Place(NamedTuple):
    """Where a parameter is; ``encoder_layers`` is 0 in a decoder that attends to no encoder."""

    encoder_layers: int
    decoder_layers: int
    layer: int  # from 1; 0 outside the layers

    @property
    def depths(self) -> tuple[int, int]:
        return self.encoder_layers, self.decoder_layers


@dataclass(frozen=True)
class Rule:
    """An operation on every parameter whose whole name matches ``pattern``."""

    pattern: str

    def apply(self, weight: Tensor, place: Place) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class XavierUniform(Rule):
    """U(-a, a), a = sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""

    def apply(self, weight: Tensor, place: Place) -> None:
        nn.init.xavier_uniform_(weight)


@dataclass(frozen=True)
class XavierNormal(Rule):
    """N(0, gain² · 2 / (fan_in + fan_out)), gain = ``gain(N, M)`` (Glorot and Bengio 2010)."""

    gain: Formula

    def apply(self, weight: Tensor, place: Place) -> None:
        nn.init.xavier_normal_(weight, gain=self.gain(*place.depths))


@dataclass(frozen=True)
class Uniform(Rule):
    """U(-a, a), a = ``bound(rows, columns, layer)``: fan_out and fan_in of a linear map."""

    bound: Callable[[int, int, int], float]

    def apply(self, weight: Tensor, place: Place) -> None:
        rows, columns = weight.shape
        bound = self.bound(rows, columns, place.layer)
        nn.init.uniform_(weight, -bound, bound)


@dataclass(frozen=True)
class Mirror(Rule):
    """Set the second half along dimension ``dim`` to the negative of the first half."""

    dim: int

    def apply(self, weight: Tensor, place: Place) -> None:
        size = weight.size(self.dim)
        half = size // 2  # of an odd size, the middle stays
        second = weight.narrow(self.dim, size - half, half)
        second.copy_(-weight.narrow(self.dim, 0, half))


@dataclass(frozen=True)
class Zero(Rule):
    def apply(self, weight: Tensor, place: Place) -> None:
        nn.init.zeros_(weight)


@dataclass(frozen=True)
class Scale(Rule):
    """Multiply the current values by ``factor(N, M)``."""

    factor: Formula

    def apply(self, weight: Tensor, place: Place) -> None:
        weight.mul_(self.factor(*place.depths))


@torch.no_grad()
def initialize(
    model: nn.Module, rules: Iterable[Rule], encoder_layers: int, decoder_layers: int
) -> None:
    """Apply ``rules`` in order, in place, to parameters and to buffers (constants of a scheme).

    A parameter shared under two names counts once. A decoder without encoder-decoder attention
    counts as one without an encoder.

    The embedding of padding stays zero, and pretrained embeddings (``models.embeddings``) stay
    unchanged: they must not be drawn anew, and a factor meant for N(0, 1/d) does not suit vectors
    of another size.
    """
    loaded = [
        (name, module.weight, module.loaded, module.weight[module.loaded])
        for name, module in model.named_modules()
        if hasattr(module, "loaded")
    ]
    parameters = [*model.named_parameters(), *model.named_buffers()]
    attends = any(".encoder_attn." in name for name, _ in parameters)
    for rule in rules:
        for name, weight in parameters:
            if re.fullmatch(rule.pattern, name):
                alone = name.startswith("decoder.") and not attends
                place = Place(0 if alone else encoder_layers, decoder_layers, _layer(name))
                rule.apply(weight, place)
    for name, weight, rows, vectors in loaded:
        _put_back(name, weight, rows, vectors)
    for module in model.modules():
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            module.weight[module.padding_idx].zero_()


def _put_back(name: str, weight: Tensor, rows: Tensor, vectors: Tensor) -> None:
    """Restore ``vectors``, the loaded rows of ``weight``, in place; warn if rules changed them."""
    if not torch.equal(weight[rows], vectors):
        logger.warning(
            f"{name}: {len(vectors)} of {len(weight)} embeddings were loaded and stay as they are; "
            "the scheme draws or scales the others only"
        )
        weight[rows] = vectors


def _layer(name: str) -> int:
    match = re.search(r"\.layers\.(\d+)\.", name)
    return int(match.group(1)) + 1 if match else 0
