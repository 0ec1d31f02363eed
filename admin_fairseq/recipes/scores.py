"""The published scores, which ``results`` shows beside those of runs."""

from __future__ import annotations

from typing import Any, Iterator, Optional

from admin_fairseq.recipes.published import PUBLISHED
from admin_fairseq.recipes.recipe import Row, Score

Entry = dict[str, Any]


def _entry(dataset: str, row: Row, score: Score) -> Entry:
    """A score as it is written to JSON."""
    encoder, decoder = row.layers
    entry = {
        "dataset": dataset,
        "scheme": row.scheme,
        "encoder_layers": encoder,
        "decoder_layers": decoder,
        "options": dict(score.options),
        "source": score.source,
        "bleu": score.bleu,
        "std": score.std,
        "diverged": score.bleu is None,
    }
    return {name: value for name, value in entry.items() if value}


def _entries() -> Iterator[Entry]:
    for dataset, published in PUBLISHED.items():
        for recipe in published.recipes:
            for row in recipe.rows:
                yield from (_entry(dataset, row, score) for score in row.scores)


SCORES = list(_entries())


def score(dataset: str, scheme: str, depths: tuple[int, int], model: Any) -> Optional[Entry]:
    """The first published score of a scheme at these depths that fits the model's options."""
    wanted = (dataset, scheme, *depths)
    keys = ("dataset", "scheme", "encoder_layers", "decoder_layers")
    for entry in SCORES:
        options = entry.get("options", {}).items()
        if tuple(map(entry.get, keys)) == wanted and all(
            getattr(model, name, None) == value for name, value in options
        ):
            return entry
    return None


def text(score: Optional[Entry]) -> str:
    if score is None:
        return ""
    if score.get("diverged"):
        return "diverged"
    return f"{score['bleu']:.2f}" + (f"±{score['std']:.2f}" if "std" in score else "")
