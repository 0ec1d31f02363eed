"""Settings that all published runs share; convert settings to options of fairseq-train.

A setting is an entry ``section.option`` → value, such as optimization.lr → 1e-3."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from admin_fairseq.bounds import spelled
from admin_fairseq.corpora.datasets import DATASETS
from admin_fairseq.recipes.recipe import Decoding, Settings, model_settings

START: Settings = {"common.user_dir": "admin_fairseq", "task._name": "translation"}
CRITERION: Settings = {
    "criterion._name": "label_smoothed_cross_entropy",
    "criterion.label_smoothing": 0.1,
}
LOG: Settings = {"common.log_format": "simple", "common.log_interval": 100}
EVERYWHERE: Settings = {**START, **CRITERION, **LOG}
"""The settings that all published runs share."""
SMALL = 0.01
"""Numbers below this are written in the form 1e-3."""


def model_of(scheme: str, size: str, layers: tuple[int, int]) -> Settings:
    """Return the settings of a model: its architecture, scheme, and layers (encoder, decoder)."""
    encoder, decoder = layers
    depths = {"model.encoder_layers": encoder, "model.decoder_layers": decoder}
    return {**model_settings(scheme, size), **depths}


def languages_of(dataset: str) -> Settings:
    """Return the settings --source-lang and --target-lang of a published data set."""
    source, target = DATASETS[dataset].languages
    return {"task.source_lang": source, "task.target_lang": target}


def kept(decoding: Decoding) -> Settings:
    """Return the settings by which fairseq-train keeps the checkpoints that ``decoding`` needs: as
    many epochs as are averaged, or none besides the best and the last."""
    if decoding.average:
        return {"checkpoint.keep_last_epochs": decoding.average}
    return {"checkpoint.no_epoch_checkpoints": True}


def options(settings: Settings) -> list[str]:
    """Convert settings to the command-line options of fairseq-train."""
    return [argument for key, value in settings.items() for argument in _option(key, value)]


def _option(key: str, value: Any) -> list[str]:
    """Convert one setting: [--option, value], [--option] for True, [] for False and None."""
    section, name = key.split(".")
    name = ("arch" if section == "model" else section) if name == "_name" else name
    option = spelled(name)
    if value is None or isinstance(value, bool):
        return [option] if value else []
    return [option, number(value)]


def number(value: Any) -> str:
    """Write an option's value as text; small numbers as 1e-3, where Python writes 0.001."""
    if isinstance(value, float) and 0 < abs(value) < SMALL:
        return f"{Decimal(repr(value)):e}"
    return str(value)
