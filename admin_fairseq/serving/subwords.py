"""Text to pieces and back."""

from __future__ import annotations

from typing import Callable, NamedTuple

import sentencepiece

from admin_fairseq.errors import AdminError
from admin_fairseq.files import open_regular

LARGEST = 256 << 20  # bytes of a model; 250,000 pieces take 5 MiB

Pieces = list[str]


class Subwords(NamedTuple):
    """How a line becomes pieces, and pieces a line."""

    encode: Callable[[str], Pieces]
    decode: Callable[[Pieces], str]


PIECES = Subwords(str.split, " ".join)
"""Lines that are pieces already, separated by spaces."""


def load_subwords(path: str) -> Subwords:
    """A sentencepiece model; raises AdminError for what is none."""
    processor = sentencepiece.SentencePieceProcessor()
    try:
        with open_regular(path) as file:
            processor.LoadFromSerializedProto(file.read(LARGEST))
    except (OSError, RuntimeError):
        raise AdminError(f"{path}: not a sentencepiece model, or a damaged one") from None
    return Subwords(lambda line: processor.encode(line, out_type=str), processor.decode)
