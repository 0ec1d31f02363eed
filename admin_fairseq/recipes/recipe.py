"""The types of the table of published runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Optional

from admin_fairseq.architectures import FAMILIES
from admin_fairseq.errors import AdminError
from admin_fairseq.schemes import SCHEMES

Settings = Mapping[str, Any]
"""``group.option`` of fairseq's configuration → value, in the order of the command line."""

HYBRIDS: dict[str, Settings] = {
    # Admin, Table 1
    "postln-preln": {"model._name": "postln_transformer", "model.decoder_normalize_before": True}
}
PUBLISHED_NAMES = ("admin", "postln", "preln", *HYBRIDS)
"""Schemes under the names of published tables, which --init-type does not have."""
SCHEME_NAMES = tuple(dict.fromkeys((*PUBLISHED_NAMES, *SCHEMES)))
"""The values of --scheme."""


@dataclass(frozen=True)
class Score:
    """A published tokenised BLEU, of runs whose model has ``options``."""

    source: str
    bleu: Optional[float] = None  # None: the run diverged
    std: Optional[float] = None  # over seeds
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A published run of a recipe, which has all settings that are not given here."""

    scheme: str
    layers: tuple[int, int]
    scores: tuple[Score, ...] = ()
    about: str = ""
    file: str = ""  # its name in configs/DATASET (default: scheme and depth)
    size: Optional[str] = None
    but: Settings = field(default_factory=dict)

    @property
    def name(self) -> str:
        encoder, decoder = self.layers
        return self.file or f"{self.scheme}_{encoder}l_{decoder}l".replace("-", "_")


@dataclass(frozen=True)
class Batch:
    """The batch of one update: on each GPU, ``update_freq`` batches of ``max_tokens``."""

    max_tokens: int
    update_freq: int
    gpus: int


@dataclass(frozen=True)
class Decoding:
    """How a run is evaluated: the mean of the last ``average`` epochs up to ``last_epoch``.

    The window is fixed beforehand, never chosen on the test set. If ``average`` is 0, the
    checkpoint with the best validation loss is taken.
    """

    beam: int
    lenpen: float = 1.0
    last_epoch: Optional[int] = None
    average: int = 10


@dataclass(frozen=True)
class Recipe:
    """How runs of ``schemes`` (all if empty), from a depth on, are trained and evaluated."""

    name: str  # the value of --recipe
    about: str
    settings: Settings
    half: Settings  # for training in fp16
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
    """The runs of one data set. The first of its recipes that fits a run is used."""

    size: str  # the end of the architecture's name
    recipes: tuple[Recipe, ...]
    recipe: Optional[str] = None  # the default of --recipe; None: any that fits

    def choose(self, name: Optional[str], scheme: str, encoder_layers: int) -> Recipe:
        """The recipe of a run; raises AdminError if no recipe called ``name`` fits."""
        for recipe in self.recipes:
            if name in (None, recipe.name) and recipe.fits(scheme, encoder_layers):
                return recipe
        names = " or ".join(dict.fromkeys(recipe.name for recipe in self.recipes))
        raise AdminError(f"--recipe {name}, for --scheme {scheme}: use {names}")


def without(settings: Settings, section: str) -> Settings:
    """The settings without those of a section."""
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
