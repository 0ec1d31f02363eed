"""The published scores of ``published.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Optional

with open(Path(__file__).with_name("published.json"), encoding="utf-8") as file:
    SCORES: list[dict[str, Any]] = json.load(file)["scores"]

DATASETS = {score["dataset"] for score in SCORES}


def score(
    dataset: str, scheme: str, depths: tuple[int, int], model: Any
) -> Optional[dict[str, Any]]:
    """The first published score of a scheme at these depths and with the model's options."""
    wanted = (dataset, scheme, *depths)
    keys = ("dataset", "scheme", "encoder_layers", "decoder_layers")
    for entry in SCORES:
        options = entry.get("options", {}).items()
        if tuple(map(entry.get, keys)) == wanted and all(
            getattr(model, name, None) == value for name, value in options
        ):
            return entry
    return None


def text(score: Optional[dict[str, Any]]) -> str:
    if score is None:
        return ""
    if score.get("diverged"):
        return "diverged"
    return f"{score['bleu']:.2f}" + (f"±{score['std']:.2f}" if "std" in score else "")
