"""Initialise a built model by rules, which change parameters whose names match a pattern."""

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
    """The depths of the model and the layer that a parameter is in, for the formulas of rules.

    ``encoder_layers`` is 0 in a decoder that attends to no encoder, ``decoder_layers`` in a model
    without a decoder.
    """

    encoder_layers: int
    decoder_layers: int
    layer: int  # from 1; 0 outside the layers

    @property
    def depths(self) -> tuple[int, int]:
        """(N, M): the numbers of encoder and decoder layers."""
        return self.encoder_layers, self.decoder_layers


@dataclass(frozen=True)
class Rule:
    """An in-place change of all parameters whose whole name matches the regular expression."""

    pattern: str

    def apply(self, weight: Tensor, place: Place) -> None:
        """Change ``weight``, a parameter at ``place``, in place."""
        raise NotImplementedError


@dataclass(frozen=True)
class XavierUniform(Rule):
    """Rule that draws from U(-a, a), a = sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""

    def apply(self, weight: Tensor, place: Place) -> None:
        nn.init.xavier_uniform_(weight)


@dataclass(frozen=True)
class XavierNormal(Rule):
    """Rule that draws from N(0, 2 g² / (fan_in + fan_out)), g = ``gain(N, M)``.

    N and M are the numbers of encoder and decoder layers. Source: Glorot and Bengio 2010.
    """

    gain: Formula

    def apply(self, weight: Tensor, place: Place) -> None:
        nn.init.xavier_normal_(weight, gain=self.gain(*place.depths))


@dataclass(frozen=True)
class Normal(Rule):
    """Rule that draws from N(0, ``std``²)."""

    std: float

    def apply(self, weight: Tensor, place: Place) -> None:
        nn.init.normal_(weight, std=self.std)


@dataclass(frozen=True)
class Uniform(Rule):
    """Rule that draws from U(-a, a), a = ``bound(rows, columns, layer)``.

    Rows and columns of a linear map's weight are its fan_out and fan_in; ``layer`` counts from 1.
    """

    bound: Callable[[int, int, int], float]

    def apply(self, weight: Tensor, place: Place) -> None:
        rows, columns = weight.shape
        bound = self.bound(rows, columns, place.layer)
        nn.init.uniform_(weight, -bound, bound)


@dataclass(frozen=True)
class Mirror(Rule):
    """Rule that sets the second half along dimension ``dim`` to the negative of the first half."""

    dim: int

    def apply(self, weight: Tensor, place: Place) -> None:
        size = weight.size(self.dim)
        half = size // 2  # of an odd size, the middle stays
        second = weight.narrow(self.dim, size - half, half)
        second.copy_(-weight.narrow(self.dim, 0, half))


@dataclass(frozen=True)
class Zero(Rule):
    """Rule that sets all values to zero."""

    def apply(self, weight: Tensor, place: Place) -> None:
        nn.init.zeros_(weight)


@dataclass(frozen=True)
class Scale(Rule):
    """Rule that multiplies the parameter by ``factor(N, M)``, N and M being the model's depths."""

    factor: Formula

    def apply(self, weight: Tensor, place: Place) -> None:
        weight.mul_(self.factor(*place.depths))


@dataclass(frozen=True)
class ScaleByLayer(Rule):
    """Rule that multiplies the parameter by ``factor(layer)``; ``layer`` counts from 1."""

    factor: Callable[[int], float]

    def apply(self, weight: Tensor, place: Place) -> None:
        weight.mul_(self.factor(place.layer))


@torch.no_grad()
def initialize(
    model: nn.Module, rules: Iterable[Rule], encoder_layers: int, decoder_layers: int
) -> None:
    """Apply ``rules`` in order, in place, to the parameters and buffers that match their patterns.

    A buffer holds a constant that a scheme defines. A parameter shared under two names is changed
    once. A decoder without encoder-decoder attention has N = 0 in the rules' formulas, whatever
    ``encoder_layers`` is.

    The embedding of padding is set to zero. Pretrained embeddings (``models.embeddings``) keep
    their values: drawing them anew would lose them, and a factor meant for N(0, 1/d) does not suit
    vectors of another magnitude.
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
    """Restore ``vectors``, pretrained rows of ``weight``, in place; warn if rules changed them."""
    if not torch.equal(weight[rows], vectors):
        logger.warning(
            f"{name}: {len(vectors)} of {len(weight)} embeddings were loaded and keep their "
            "values; the scheme draws or scales only the others"
        )
        weight[rows] = vectors


def _layer(name: str) -> int:
    """Return the number of the layer, from 1, in a parameter's name; 0 outside the layers."""
    match = re.search(r"\.layers\.(\d+)\.", name)
    return int(match.group(1)) + 1 if match else 0
