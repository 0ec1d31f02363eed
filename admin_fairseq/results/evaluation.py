"""evaluation.json: the scores of a model, which ``score`` writes and ``results`` reads."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Annotated, Optional, Union

from msgspec import Meta

from admin_fairseq.files import read_json, write_json

Text = Annotated[str, Meta(max_length=4096)]  # room for any path


@dataclass(frozen=True)
class Score:
    """BLEU in per cent (rounding may exceed 100), and how it was computed."""

    score: Annotated[float, Meta(ge=0, le=100.01)]
    signature: Text = ""


@dataclass(frozen=True)
class Evaluation:
    """Scores by kind, and what was scored."""

    dataset: Optional[Text] = None
    subset: Text = "test"
    checkpoint: Optional[Text] = None
    averaged: Optional[int] = None
    options: dict[str, Union[int, float, str, None]] = field(default_factory=dict)
    bleu: Annotated[dict[Text, Score], Meta(max_length=100)] = field(default_factory=dict)

    def write(self, path: str, force: bool) -> None:
        """Write JSON, whole or not at all."""
        write_json(asdict(self), path, force)


def read_evaluation(path: str) -> Evaluation:
    """Raises AdminError if the file cannot be read, or is not an evaluation."""
    return read_json(path, Evaluation, "an evaluation as admin-fairseq score writes it")
