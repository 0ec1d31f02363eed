"""The types of the table of published training runs: recipe, run, score, decoding."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Optional

from admin_fairseq.architectures import FAMILIES
from admin_fairseq.errors import AdminError
from admin_fairseq.schemes import SCHEMES

Settings = Mapping[str, Any]
"""Settings of fairseq: ``section.option``, as optimization.lr → value; the command line has them in
this order. A value of None leaves the option out."""

HYBRIDS: dict[str, Settings] = {
    # Admin, Table 1
    "postln-preln": {"model._name": "postln_transformer", "model.decoder_normalize_before": True}
}
PUBLISHED_NAMES = ("admin", "postln", "preln", *HYBRIDS)
"""Schemes as published tables call them; --init-type has no such values."""
SCHEME_NAMES = tuple(dict.fromkeys((*PUBLISHED_NAMES, *SCHEMES)))
"""The values of --scheme."""


@dataclass(frozen=True)
class Score:
    """A published tokenised BLEU score: the paper and the value."""

    source: str  # the paper or README, and its table
    bleu: Optional[float] = None  # None: the run diverged
    std: Optional[float] = None  # standard deviation over seeds
    options: Mapping[str, Any] = field(default_factory=dict)  # only for models with these options


@dataclass(frozen=True)
class Row:
    """A published training run, a row of a paper's table: its scheme, depth and scores, and the
    settings that differ from its ``Recipe``."""

    scheme: str
    layers: tuple[int, int]  # of encoder and decoder
    scores: tuple[Score, ...] = ()
    about: str = ""  # a comment for its configuration file
    file: str = ""  # name of its file in configs/DATASET, without .yaml (default: scheme and depth)
    size: Optional[str] = None  # suffix of the architecture's name, if not the data set's
    but: Settings = field(default_factory=dict)  # settings that replace the recipe's

    @property
    def name(self) -> str:
        """The name of the run's configuration file in configs/DATASET, without .yaml."""
        encoder, decoder = self.layers
        return self.file or f"{self.scheme}_{encoder}l_{decoder}l".replace("-", "_")


@dataclass(frozen=True)
class Batch:
    """The published batch of one update: each of ``gpus`` GPUs processes ``update_freq`` batches of
    at most ``max_tokens`` tokens."""

    max_tokens: int
    update_freq: int
    gpus: int


@dataclass(frozen=True)
class Decoding:
    """The published evaluation of a run: beam search, and which checkpoints are averaged.

    The checkpoints of the last ``average`` epochs up to ``last_epoch`` are averaged, and these
    epochs are never chosen on the test set. If ``average`` is 0, the checkpoint with the best
    validation loss is translated with instead.
    """

    beam: int
    lenpen: float = 1.0
    last_epoch: Optional[int] = None
    average: int = 10


@dataclass(frozen=True)
class Recipe:
    """The settings with which a paper trains and evaluates its runs on one data set."""

    name: str  # the value of --recipe
    about: str  # a comment for the configuration files: paper, differences, doubts
    settings: Settings
    half: Settings  # further settings for training in fp16
    batch: Batch
    decoding: Decoding
    seeds: tuple[int, ...] = (1111,)  # default of --seeds
    schemes: tuple[str, ...] = ()  # the schemes that can use the recipe; empty: all
    from_layers: int = 0  # the least encoder layers of a model that can use the recipe
    rows: tuple[Row, ...] = ()  # the published runs

    def fits(self, scheme: str, encoder_layers: int) -> bool:
        """Whether a run of this scheme and encoder depth can use the recipe."""
        return encoder_layers >= self.from_layers and scheme in (self.schemes or (scheme,))


@dataclass(frozen=True)
class Published:
    """The published runs on one data set: the size of their models, and their recipes."""

    size: str  # suffix of the architecture's name, as in admin_transformer_wmt_en_de
    recipes: tuple[Recipe, ...]  # a run uses the first one that fits it
    recipe: Optional[str] = None  # the default of --recipe; None: the first that fits

    def choose(self, name: Optional[str], scheme: str, encoder_layers: int) -> Recipe:
        """Return the recipe that fits the scheme and depth, and is called ``name`` unless that is
        None; of several the one with the scheme's name, or else the first. Raise AdminError if
        there is none."""
        fitting = [
            recipe
            for recipe in self.recipes
            if name in (None, recipe.name) and recipe.fits(scheme, encoder_layers)
        ]
        if fitting:
            return next((recipe for recipe in fitting if recipe.name == scheme), fitting[0])
        names = " or ".join(dict.fromkeys(recipe.name for recipe in self.recipes))
        raise AdminError(f"--recipe {name}, for --scheme {scheme}: use {names}")


def without(settings: Settings, section: str) -> Settings:
    """Return ``settings`` without those of one section, such as lr_scheduler."""
    return {key: settings[key] for key in settings if not key.startswith(f"{section}.")}


def model_settings(scheme: str, size: str) -> Settings:
    """Return the settings (--arch and perhaps --init-type) that select ``scheme``, a name of
    ``SCHEME_NAMES``; ``size`` is the suffix of the architecture's name, such as _wmt_en_de."""
    family = f"{scheme}_transformer"
    if scheme in HYBRIDS:
        return {**HYBRIDS[scheme], "model._name": HYBRIDS[scheme]["model._name"] + size}
    if family not in FAMILIES:
        return {"model._name": f"admin_transformer{size}", "model.init_type": scheme}
    first = {"model.init_type": None} if scheme == "admin" else {}
    return {"model._name": family + size, **first}
