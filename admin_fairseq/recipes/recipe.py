"""What the table of published runs is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Optional

from admin_fairseq.architectures import FAMILIES
from admin_fairseq.errors import AdminError
from admin_fairseq.schemes import SCHEMES

Settings = Mapping[str, Any]
"""``group.option``, as fairseq's configuration names it → value, in the order of a command."""

HYBRIDS: dict[str, Settings] = {
    # Admin, Table 1
    "postln-preln": {"model._name": "postln_transformer", "model.decoder_normalize_before": True}
}
PUBLISHED_NAMES = ("admin", "postln", "preln", *HYBRIDS)
"""Schemes that tables call otherwise than --init-type does."""
SCHEME_NAMES = tuple(dict.fromkeys((*PUBLISHED_NAMES, *SCHEMES)))
"""The values of --scheme."""


@dataclass(frozen=True)
class Score:
    """A published BLEU, tokenised. It is that of runs that have ``options`` of the model."""

    source: str
    bleu: Optional[float] = None  # None: the run diverged
    std: Optional[float] = None  # over seeds
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A published run of a recipe. What is not said here is the recipe's."""

    scheme: str
    layers: tuple[int, int]
    scores: tuple[Score, ...] = ()
    about: str = ""
    file: str = ""  # its name in configs/DATASET; by default scheme and depth
    size: Optional[str] = None
    but: Settings = field(default_factory=dict)

    @property
    def name(self) -> str:
        encoder, decoder = self.layers
        return self.file or f"{self.scheme}_{encoder}l_{decoder}l".replace("-", "_")


@dataclass(frozen=True)
class Batch:
    """One update: ``update_freq`` batches of ``max_tokens`` on each GPU."""

    max_tokens: int
    update_freq: int
    gpus: int


@dataclass(frozen=True)
class Decoding:
    """The mean of the last ``average`` epochs up to ``last_epoch`` is evaluated.

    The window is fixed beforehand, never chosen on the test set. Without one, the checkpoint with
    the best validation loss is taken.
    """

    beam: int
    lenpen: float = 1.0
    last_epoch: Optional[int] = None
    average: int = 10


@dataclass(frozen=True)
class Recipe:
    """How runs train and are evaluated: of ``schemes`` (all, if empty), from a depth on."""

    name: str  # the value of --recipe
    about: str
    settings: Settings
    half: Settings  # what makes it fp16, and what comes with that
    batch: Batch
    decoding: Decoding
    seeds: tuple[int, ...] = (1111,)
    schemes: tuple[str, ...] = ()
    from_layers: int = 0  # of the encoder
    rows: tuple[Row, ...] = ()

    def fits(self, scheme: str, encoder_layers: int) -> bool:
        return encoder_layers >= self.from_layers and scheme in (self.schemes or (scheme,))


@dataclass(frozen=True)
class Published:
    """The runs of one data set. Of its recipes, the first that fits counts."""

    size: str  # the end of the architecture's name
    recipes: tuple[Recipe, ...]
    recipe: Optional[str] = None  # the value of --recipe where none is given; None: any

    def choose(self, name: Optional[str], scheme: str, encoder_layers: int) -> Recipe:
        """The recipe of a run; raises AdminError where ``name`` is none of this data set's."""
        for recipe in self.recipes:
            if name in (None, recipe.name) and recipe.fits(scheme, encoder_layers):
                return recipe
        names = " or ".join(dict.fromkeys(recipe.name for recipe in self.recipes))
        raise AdminError(f"--recipe {name}, for --scheme {scheme}: use {names}")


def without(settings: Settings, section: str) -> Settings:
    """The settings but those of a section."""
    return {key: settings[key] for key in settings if not key.startswith(f"{section}.")}


def architecture(scheme: str, size: str) -> Settings:
    """The model's options that make ``scheme``, a name of ``SCHEME_NAMES``."""
    family = f"{scheme}_transformer"
    if scheme in HYBRIDS:
        return {**HYBRIDS[scheme], "model._name": HYBRIDS[scheme]["model._name"] + size}
    if family not in FAMILIES:
        return {"model._name": f"admin_transformer{size}", "model.init_type": scheme}
    first = {"model.init_type": None} if scheme == "admin" else {}
    return {"model._name": family + size, **first}
