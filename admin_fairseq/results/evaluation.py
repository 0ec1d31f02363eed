"""evaluation.json, the scores of a model: ``admin-fairseq score`` writes the file, and
``admin-fairseq results`` reads it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Annotated, Optional, Union

from msgspec import Meta

from admin_fairseq.files import read_json, write_json

Text = Annotated[str, Meta(max_length=4096)]  # room for any path


@dataclass(frozen=True)
class Score:
    """A BLEU or chrF2 score from 0 to 100 (up to 100.01 by rounding errors), with sacreBLEU's
    signature."""

    score: Annotated[float, Meta(ge=0, le=100.01)]
    signature: Text = ""  # sacreBLEU's description of how the score was computed


@dataclass(frozen=True)
class Evaluation:
    """The content of evaluation.json: scores, and the model and test set they belong to."""

    dataset: Optional[Text] = None
    subset: Text = "test"
    checkpoint: Optional[Text] = None
    averaged: Optional[int] = None  # number of averaged checkpoints
    options: dict[str, Union[int, float, str, None]] = field(default_factory=dict)  # beam, lenpen
    # kind (tokenised, compound split, detokenised) → score
    bleu: Annotated[dict[Text, Score], Meta(max_length=100)] = field(default_factory=dict)
    chrf: Optional[Score] = None  # chrF2; files of earlier versions have none

    def write(self, path: str, force: bool) -> None:
        """Write the scores to a JSON file, completely or not at all; ``force`` replaces a file."""
        write_json(asdict(self), path, force)


def read_evaluation(path: str) -> Evaluation:
    """Read an evaluation.json; raise AdminError if the file cannot be read or is something else."""
    return read_json(path, Evaluation, "an evaluation as admin-fairseq score writes it")
