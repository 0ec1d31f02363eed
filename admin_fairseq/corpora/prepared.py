"""The folder that ``admin-fairseq prepare`` writes: the paths of its files, and prepared.json.

DATA_DIR/
  bin/                         for fairseq-train
  train|valid|test.SRC|TGT     text split into subword pieces
  test.words.SRC|TGT           the test set before it was split into pieces
  test.raw.SRC|TGT             the test set as published, without markup: for sacreBLEU
  bpe.codes or sentencepiece.model   the learned subwords
  prepared.json                settings, numbers of pairs, and versions of the packages
  raw/, work/                  archives and intermediate text; can be deleted at the end
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import chain
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
"""The name of a data set or a language, restricted because it becomes part of file names."""


class _Needed(TypedDict):
    """The entries of prepared.json that must be there, because other commands read them."""

    dataset: Name
    target: Name
    lowercase: bool


class _Prepared(_Needed, total=False):
    """All entries of prepared.json; ``prepare`` compares them with its own settings."""

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
    """Read prepared.json, the record of how the folder's data were made; None if there is none.

    Raises AdminError if the file is damaged.
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
    """The paths of the files in a prepared data folder; a pair is (source file, target file)."""

    path: str
    languages: Pair
    subwords: str  # name of the file of learned subwords: bpe.codes or sentencepiece.model

    def at(self, *names: str) -> str:
        return os.path.join(self.path, *names)

    def unpacked(self, archive: str, member: str) -> str:
        """The path in work/ where a member of an archive is unpacked."""
        return self.at(WORKPLACE, archive, *member.split("/"))

    def sides(self, part: Part) -> Pair:
        """The source and target file of a parallel text: unpacked from its archive, or, without an
        archive, the files that ``part`` names."""
        if part.archive is None:
            return part.source, part.target
        return self.unpacked(part.archive, part.source), self.unpacked(part.archive, part.target)

    def words(self, split: str) -> Pair:
        """The intermediate text files of a split (train, valid, test) in work/: tokenised, but not
        split into subword pieces."""
        return self._both(WORKPLACE, f"{split}.words.")

    def pieces(self, split: str) -> Pair:
        """The text files of a split (train, valid, test), split into subword pieces."""
        return self._both(f"{split}.")

    def test(self, kind: str) -> Pair:
        """The text files of the test set without subword pieces: ``kind`` is "raw" (as published)
        or "words" (tokenised)."""
        return self._both(f"test.{kind}.")

    def learned(self) -> str:
        """The file of learned subwords: BPE merges or a sentencepiece model."""
        return self.at(self.subwords)

    def dictionaries(self) -> Pair:
        """fairseq's dictionary files in bin/."""
        return self._both("bin", "dict.", end=".txt")

    def binary(self) -> list[str]:
        """The paths of all files in bin/: the dictionaries, and fairseq's data of each split."""
        both = "-".join(self.languages)
        ends = [(split, end) for split in SPLITS for end in (".bin", ".idx")]
        data = [self._both("bin", f"{split}.{both}.", end=end) for split, end in ends]
        return [*self.dictionaries(), *chain.from_iterable(data)]

    def counted(self) -> Pair:
        """The dictionary files in work/, from which fairseq-preprocess makes those in bin/."""
        return self._both(WORKPLACE, "dict.", end=".txt")

    def text(self) -> list[str]:
        """The paths of all files outside bin/ that a complete preparation leaves."""
        pieces = [path for split in SPLITS for path in self.pieces(split)]
        return [*pieces, *self.test("raw"), *self.test("words"), self.learned()]

    def _both(self, *names: str, end: str = "") -> Pair:
        """Join ``names`` to a path; return it with the source and with the target language added,
        then ``end``."""
        source, target = (f"{self.at(*names)}{language}{end}" for language in self.languages)
        return source, target
