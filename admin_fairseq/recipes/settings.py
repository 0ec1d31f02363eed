"""Settings that several recipes share, and settings as command-line options."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from admin_fairseq.corpora.datasets import DATASETS
from admin_fairseq.recipes.recipe import Decoding, Settings, architecture

START: Settings = {"common.user_dir": "admin_fairseq", "task._name": "translation"}
CRITERION: Settings = {
    "criterion._name": "label_smoothed_cross_entropy",
    "criterion.label_smoothing": 0.1,
}
LOG: Settings = {"common.log_format": "simple", "common.log_interval": 100}
EVERYWHERE: Settings = {**START, **CRITERION, **LOG}
"""The settings that all published runs share."""
SMALL = 0.01
"""Smaller numbers are written as 1e-3."""


def model_of(scheme: str, size: str, layers: tuple[int, int]) -> Settings:
    encoder, decoder = layers
    depths = {"model.encoder_layers": encoder, "model.decoder_layers": decoder}
    return {**architecture(scheme, size), **depths}


def languages_of(dataset: str) -> Settings:
    source, target = DATASETS[dataset].languages
    return {"task.source_lang": source, "task.target_lang": target}


def kept(decoding: Decoding) -> Settings:
    """Settings that keep the checkpoints that the evaluation needs."""
    if decoding.average:
        return {"checkpoint.keep_last_epochs": decoding.average}
    return {"checkpoint.no_epoch_checkpoints": True}


def options(settings: Settings) -> list[str]:
    """The words of a fairseq-train command that stand for ``settings``."""
    return [word for key, value in settings.items() for word in _option(key, value)]


def _option(key: str, value: Any) -> list[str]:
    section, name = key.split(".")
    name = ("arch" if section == "model" else section) if name == "_name" else name
    option = "--" + name.replace("_", "-")
    if value is None or isinstance(value, bool):
        return [option] if value else []
    return [option, number(value)]


def number(value: Any) -> str:
    """``value`` as people write it: 1e-3, not Python's 0.001."""
    if isinstance(value, float) and 0 < abs(value) < SMALL:
        return f"{Decimal(repr(value)):e}"
    return str(value)
