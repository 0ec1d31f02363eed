"""Sentencepiece: train a model, split text into pieces and join them. Nothing else imports it."""

from __future__ import annotations

import io
from typing import Any, Callable, Iterable, NamedTuple

import sentencepiece

from admin_fairseq.errors import AdminError
from admin_fairseq.files import open_regular, replacing

LARGEST = 256 << 20  # bytes of a model; 250,000 pieces take 5 MiB

Pieces = list[str]


class Subwords(NamedTuple):
    """Functions from a line to its pieces and back."""

    encode: Callable[[str], Pieces]
    decode: Callable[[Pieces], str]


PIECES = Subwords(str.split, " ".join)
"""Lines that are pieces already, separated by spaces."""


def learn(lines: Iterable[str], path: str, size: int, kind: str = "bpe", **options: Any) -> None:
    """Train a model of ``size`` pieces on ``lines`` and write it, whole or not at all.

    ``kind`` is bpe or unigram, ``options`` are those of sentencepiece's trainer. Raises AdminError
    if the text is too small for so many pieces, or has more different characters.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            vocab_size=size,
            model_type=kind,
            character_coverage=1.0,
            minloglevel=2,
            **options,
        )
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].rpartition("] ")[2]
        raise AdminError(f"sentencepiece cannot learn {size} pieces: {reason}") from None
    with replacing(path) as file:
        file.write(model.getvalue())


def load(path: str) -> Subwords:
    """Read a sentencepiece model; raises AdminError if it is none."""
    processor = sentencepiece.SentencePieceProcessor()
    try:
        with open_regular(path) as file:
            processor.LoadFromSerializedProto(file.read(LARGEST))
    except (OSError, RuntimeError):
        raise AdminError(f"{path}: not a sentencepiece model, or a damaged one") from None
    return Subwords(lambda line: processor.encode(line, out_type=str), processor.decode)
