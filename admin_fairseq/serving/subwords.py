"""Text to pieces and back."""

from __future__ import annotations

from typing import Callable, NamedTuple

import sentencepiece

from admin_fairseq.errors import AdminError

Pieces = list[str]


class Subwords(NamedTuple):
    """How a line becomes pieces, and pieces a line."""

    encode: Callable[[str], Pieces]
    decode: Callable[[Pieces], str]


PIECES = Subwords(str.split, " ".join)
"""Lines that are pieces already, separated by spaces."""


def load_subwords(path: str) -> Subwords:
    """A sentencepiece model; raises AdminError for what is none."""
    try:
        processor = sentencepiece.SentencePieceProcessor(model_file=path)
    except (OSError, RuntimeError):
        raise AdminError(f"{path}: not a sentencepiece model, or a damaged one") from None
    return Subwords(lambda line: processor.encode(line, out_type=str), processor.decode)
