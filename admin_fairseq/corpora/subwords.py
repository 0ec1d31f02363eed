"""Learning subwords from the training text, and splitting text into them."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from functools import lru_cache
from itertools import chain
from typing import Callable, Iterator, NamedTuple

from admin_fairseq import pieces
from admin_fairseq.corpora.places import open_input
from admin_fairseq.corpora.streams import progress, read_lines
from admin_fairseq.errors import blaming
from admin_fairseq.files import replacing

SENTENCES_FOR_SENTENCEPIECE = 5_000_000  # a random sample of larger texts, to bound memory


class Subwords(NamedTuple):
    """A kind of subwords."""

    file: str  # name of the learned merges or model
    remove: str  # fairseq's --remove-bpe
    learn: Callable[[list[str], str, int], None]
    encoder: Callable[[str], Callable[[str], str]]


def _learn_bpe(texts: list[str], path: str, size: int) -> None:
    """Sennrich's BPE, joined: the merges are learned from the texts one after the other."""
    from subword_nmt.learn_bpe import learn_bpe

    lines = progress(chain.from_iterable(map(read_lines, texts)), "learning BPE", "lines")
    merges = io.StringIO()
    with _quiet_unless_seen():
        learn_bpe(lines, merges, size)
    with replacing(path) as file:
        file.write(merges.getvalue().encode())


def _quiet_unless_seen() -> contextlib.AbstractContextManager:
    """learn_bpe draws its progress bar even if standard error is not a terminal."""
    if sys.stderr.isatty():
        return contextlib.nullcontext()
    return contextlib.redirect_stderr(io.StringIO())


def _bpe_encoder(path: str) -> Callable[[str], str]:
    from subword_nmt.apply_bpe import BPE

    with io.TextIOWrapper(open_input(path), encoding="utf-8") as merges:
        return BPE(merges).process_line


def _learn_sentencepiece(texts: list[str], path: str, size: int) -> None:
    """A sentencepiece BPE model of ``size`` pieces, without normalisation of the text."""
    with blaming("--bpe-size"):
        pieces.learn(
            _lines(texts),
            path,
            size,
            normalization_rule_name="identity",
            input_sentence_size=SENTENCES_FOR_SENTENCEPIECE,
            shuffle_input_sentence=True,
        )


def _lines(texts: list[str]) -> Iterator[str]:
    yield from progress(chain.from_iterable(map(read_lines, texts)), "reading", "lines")


def _sentencepiece_encoder(path: str) -> Callable[[str], str]:
    encode = pieces.load(path).encode
    return lambda line: " ".join(encode(line))


SUBWORDS = {
    "subword-nmt": Subwords("bpe.codes", "@@ ", _learn_bpe, _bpe_encoder),
    "sentencepiece": Subwords(
        "sentencepiece.model", "sentencepiece", _learn_sentencepiece, _sentencepiece_encoder
    ),
}
"""The values of ``--bpe``."""


def encoder(kind: str, path: str) -> Callable[[str], str]:
    """Line of words → line of pieces; loaded once in each process, unless the file changes."""
    return _load(kind, path, os.stat(path).st_mtime_ns)


@lru_cache(maxsize=1)
def _load(kind: str, path: str, changed: int) -> Callable[[str], str]:
    return SUBWORDS[kind].encoder(path)
