"""The folder of a data set: where its files lie, and the record of how they were made.

DATA_DIR/
  bin/                         for fairseq-train
  train|valid|test.SRC|TGT     pieces
  test.words.SRC|TGT           the test set before it was split into pieces
  test.raw.SRC|TGT             as published, without markup: for sacreBLEU
  bpe.codes or sentencepiece.model
  prepared.json                how it was made, with numbers of pairs and versions
  raw/, work/                  archives and intermediate text; may be deleted at the end
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated, Any, Optional, TypedDict

import msgspec

from admin_fairseq.corpora.datasets import Part
from admin_fairseq.corpora.steps import WORKPLACE
from admin_fairseq.corpora.streams import Pair
from admin_fairseq.errors import AdminError
from admin_fairseq.files import read_json

PREPARED = "prepared.json"
SPLITS = ("train", "valid", "test")

Name = Annotated[str, msgspec.Meta(pattern=r"\A\w[\w.-]{0,63}\Z")]
"""Of a data set or a language; it becomes part of file names."""


class _Needed(TypedDict):
    """The part of prepared.json that other commands read."""

    dataset: Name
    target: Name
    lowercase: bool


class _Prepared(_Needed, total=False):
    """prepared.json. A run compares the other entries with its own settings."""

    source: Name
    bpe: Any
    remove_bpe: str
    tokenised: bool
    joined_dictionary: bool
    recipe: Any
    archives: dict[str, list[int]]
    pairs: dict[str, int]
    versions: dict[str, str]


def read_prepared(data_dir: str) -> Optional[dict[str, Any]]:
    """prepared.json of a data folder, None if there is none.

    Raises AdminError if it is damaged.
    """
    path = os.path.join(data_dir, PREPARED)
    if not os.path.lexists(path):
        return None
    try:
        return dict(read_json(path, _Prepared, "the record of a preparation"))
    except AdminError as error:
        raise AdminError(f"{error.message}; delete it and prepare the data again") from None


@dataclass(frozen=True)
class DataFolder:
    """The paths of a data folder. A pair of paths is that of source and target."""

    path: str
    languages: Pair
    subwords: str  # name of the file that is learned from the training text

    def at(self, *names: str) -> str:
        return os.path.join(self.path, *names)

    def unpacked(self, archive: str, member: str) -> str:
        return self.at(WORKPLACE, archive, *member.split("/"))

    def sides(self, part: Part) -> Pair:
        """The files of a part: unpacked from its archive, or where they are."""
        if part.archive is None:
            return part.source, part.target
        return self.unpacked(part.archive, part.source), self.unpacked(part.archive, part.target)

    def words(self, split: str) -> Pair:
        return self._both(WORKPLACE, f"{split}.words.")

    def pieces(self, split: str) -> Pair:
        return self._both(f"{split}.")

    def test(self, kind: str) -> Pair:
        """The test set before it was split into pieces; ``kind`` is raw or words."""
        return self._both(f"test.{kind}.")

    def learned(self) -> str:
        return self.at(self.subwords)

    def dictionaries(self) -> Pair:
        return self._both("bin", "dict.", end=".txt")

    def text(self) -> list[str]:
        """Every file outside bin/ that a complete preparation leaves."""
        pieces = [path for split in SPLITS for path in self.pieces(split)]
        return [*pieces, *self.test("raw"), *self.test("words"), self.learned()]

    def _both(self, *names: str, end: str = "") -> Pair:
        source, target = (f"{self.at(*names)}{language}{end}" for language in self.languages)
        return source, target
