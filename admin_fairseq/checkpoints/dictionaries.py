"""Find the dictionaries of a data folder, and check that a checkpoint was trained with them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Mapping, Optional

from fairseq.data import Dictionary, data_utils

from admin_fairseq import pieces
from admin_fairseq.checkpoints.storage import Weights
from admin_fairseq.errors import AdminError


@dataclass(frozen=True)
class DataBin:
    """A data folder that ``fairseq-preprocess`` wrote, and the languages to translate between.

    The data of a language model have one dictionary, and no languages (None).
    """

    folder: str
    source_lang: Optional[str] = None
    target_lang: Optional[str] = None

    @property
    def languages(self) -> tuple[str, ...]:
        """The source and the target language; none for a language model."""
        named = self.source_lang, self.target_lang
        return tuple(language for language in named if language is not None)

    @property
    def files(self) -> dict[str, str]:
        """Stack → the file with its dictionary."""
        named = dict(zip(("encoder", "decoder"), (f"dict.{name}.txt" for name in self.languages)))
        return {
            stack: os.path.join(self.folder, name)
            for stack, name in (named or {"decoder": "dict.txt"}).items()
        }

    def check_pieces(self, path: str) -> None:
        """Raise AdminError unless the dictionaries are of text that a sentencepiece model split.

        ``path`` is the model's file.
        """
        for file in self.files.values():
            pieces.check_split(path, Dictionary.load(file).symbols, file)

    def check(self, weights: Weights) -> None:
        """Raise AdminError unless the dictionaries are as large as the embedding tables.

        ``weights`` is the state dict of a checkpoint's model.
        """
        self.dictionaries(weights)

    def dictionaries(self, weights: Weights) -> dict[str, Dictionary]:
        """Return stack → dictionary, checked to be as large as the embedding tables in ``weights``.

        Raises AdminError if one is not, or cannot be read.
        """
        return {stack: self._dictionary(stack, file, weights) for stack, file in self.files.items()}

    def _dictionary(self, stack: str, file: str, weights: Weights) -> Dictionary:
        """Load the dictionary of ``stack`` in ``file``, and check its size."""
        table = f"{stack}.embed_tokens.weight"
        if table not in weights:
            raise AdminError(f"damaged checkpoint: {table} is missing")
        dictionary, rows = Dictionary.load(file), len(weights[table])
        if len(dictionary) != rows:
            raise AdminError(
                f"{file}: {len(dictionary)} types, but the checkpoint's {stack} has {rows} "
                "embeddings; --data must be the folder that the model was trained on"
            )
        return dictionary


def data_bin(
    folder: str,
    task: Mapping[str, Any],
    source_lang: Optional[str] = None,
    target_lang: Optional[str] = None,
) -> DataBin:
    """Return ``folder`` with the languages given, or else the languages of a checkpoint's ``task``.

    If neither names them, they are inferred from the names of the files. The data of a language
    model (fairseq's task ``language_modeling``) have none. Raises AdminError if the folder does not
    exist, its languages cannot be determined, or languages are given for a language model.
    """
    if not os.path.isdir(folder):
        raise AdminError(f"{folder}: --data must be the folder that fairseq-preprocess wrote")
    if task.get("_name") == "language_modeling":
        if source_lang or target_lang:
            raise AdminError(
                "a language model has no languages; leave out --source-lang and --target-lang"
            )
        return DataBin(os.path.abspath(folder))
    source, target = source_lang or task.get("source_lang"), target_lang or task.get("target_lang")
    if not (source and target):
        try:
            source, target = data_utils.infer_language_pair(folder)
        except AdminError as error:  # of repairs.data_folders, perhaps with the advice to give bin/
            advice = "or, if it has the dictionaries alone, give --source-lang and --target-lang"
            raise AdminError(f"{error.message}; {advice}") from None
    return DataBin(os.path.abspath(folder), source, target)
