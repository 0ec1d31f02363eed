"""Look up published BLEU scores; ``admin-fairseq results`` shows them beside those of your runs."""

from __future__ import annotations

from typing import Any, Iterator, Optional

from admin_fairseq.recipes.published import PUBLISHED
from admin_fairseq.recipes.recipe import Row, Score

Entry = dict[str, Any]


def _entry(dataset: str, row: Row, score: Score) -> Entry:
    """Convert a published score to the dictionary that is written to JSON; leave out what is empty,
    zero or unknown."""
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
    """Yield every score of the table of published runs."""
    for dataset, published in PUBLISHED.items():
        for recipe in published.recipes:
            for row in recipe.rows:
                yield from (_entry(dataset, row, score) for score in row.scores)


SCORES = list(_entries())


def score(dataset: str, scheme: str, depths: tuple[int, int], model: Any) -> Optional[Entry]:
    """Find the first published score for a data set, scheme and (encoder, decoder) depths.

    ``model`` has the run's model options as attributes; a score that was published for certain
    options, such as a trainable ω (Admin's residual scale), fits only a model with these. Returns
    None if nothing fits.
    """
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
    """Format a published score for a table cell: "29.03", "35.67±0.15", "diverged" or nothing."""
    if score is None:
        return ""
    if score.get("diverged"):
        return "diverged"
    return f"{score['bleu']:.2f}" + (f"±{score['std']:.2f}" if "std" in score else "")
