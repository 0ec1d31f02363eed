"""Train sentencepiece models, split text into their pieces and join it again.

Only this module imports sentencepiece.
"""

from __future__ import annotations

import io
import re
from typing import Any, Callable, Collection, Iterable, NamedTuple

import sentencepiece

from admin_fairseq.errors import AdminError
from admin_fairseq.files import open_regular, replacing

LARGEST = 256 << 20  # most bytes read of a model; 250,000 pieces take 5 MiB

SPACE = "\u2581"
"""The character that stands for a space in a piece."""

LEAST_SHARED = 0.95
"""Share of a dictionary's pieces that are the model's. All should be; of another model for the same
languages, it is a half to nine tenths."""

ADDED = re.compile(r"<s>|<pad>|<blank>|</s>|<unk>|madeupword\d+")
"""Symbols that fairseq adds to dictionaries: special ones (<blank> is CTranslate2's name for
<pad>), and words that round the size up."""

Pieces = list[str]


class Subwords(NamedTuple):
    """A pair of functions: one splits a line into subword pieces, the other joins them again."""

    encode: Callable[[str], Pieces]
    decode: Callable[[Pieces], str]


PIECES = Subwords(str.split, " ".join)
"""For text that is split already: its pieces are separated by spaces."""


def learn(lines: Iterable[str], path: str, size: int, kind: str = "bpe", **options: Any) -> None:
    """Train a sentencepiece model of ``size`` pieces on ``lines``, and write the file ``path``.

    ``kind`` is bpe or unigram; ``options`` are those of sentencepiece's trainer. The file is
    written completely or not at all. Raises AdminError if the text is too small for so many pieces,
    or has more different characters than pieces.
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
    """Read the sentencepiece model in the file ``path``; raise AdminError if the file has none.

    Joined pieces are one line: a newline, which a model with byte pieces can generate, is a space.
    """
    processor = _processor(path)
    return Subwords(
        lambda line: processor.encode(line, out_type=str),
        lambda pieces: processor.decode(pieces).replace("\n", " "),
    )


def vocabulary(path: str) -> Pieces:
    """Return all pieces of the sentencepiece model in the file ``path``, without control symbols.

    Raises AdminError if the file has no model.
    """
    processor = _processor(path)
    return [
        processor.id_to_piece(number)
        for number in range(processor.get_piece_size())
        if not (processor.is_control(number) or processor.is_unknown(number))
    ]


def check_split(path: str, symbols: Collection[str], where: str) -> None:
    """Raise AdminError unless ``symbols`` are pieces of a sentencepiece model.

    ``path`` is the model's file, ``where`` the file with the symbols. Those that fairseq adds to
    every dictionary do not count, nor do single characters, as those that the model does not know
    remain in the text that it splits.
    """
    asked = {
        symbol
        for symbol in symbols
        if len(symbol.lstrip(SPACE)) > 1 and not ADDED.fullmatch(symbol)
    }
    shared = len(asked.intersection(vocabulary(path)))
    if shared < LEAST_SHARED * len(asked):
        raise AdminError(
            f"{path}: has only {shared} of the {len(asked)} pieces in {where}; "
            "--sentencepiece-model must be the model that split the training data"
        )


def _processor(path: str) -> sentencepiece.SentencePieceProcessor:
    """Load the sentencepiece model in the file ``path``; raise AdminError if the file has none."""
    processor = sentencepiece.SentencePieceProcessor()
    try:
        with open_regular(path) as file:
            processor.LoadFromSerializedProto(file.read(LARGEST))
        processor.id_to_piece(list(range(processor.get_piece_size())))  # all are UTF-8
    except FileNotFoundError:
        raise AdminError(f"{path}: no such file") from None
    except (OSError, RuntimeError, UnicodeDecodeError):
        raise AdminError(f"{path}: not a sentencepiece model, or a damaged one") from None
    return processor
