"""Learn subwords from the training text, and split text into subword pieces."""

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

SENTENCES_FOR_SENTENCEPIECE = 5_000_000  # larger texts are sampled at random, to bound memory


class SubwordMethod(NamedTuple):
    """A method of splitting words into subwords: a value of ``--bpe``."""

    file: str  # name of the file that learning writes, in the data folder
    remove: str  # the value of fairseq's --remove-bpe that joins the pieces again
    learn: Callable[[list[str], str, int], None]  # (text files, file to write, --bpe-size)
    encoder: Callable[[str], Callable[[str], str]]  # the learned file → (line → line of pieces)
    # the learned file → pieces that a dictionary has even if the training text lacks them
    vocabulary: Callable[[str], list[str]]


def _learn_bpe(texts: list[str], path: str, size: int) -> None:
    """Learn ``size`` BPE merges with subword-nmt (Sennrich et al.) from all ``texts`` together, and
    write the merges to ``path``."""
    from subword_nmt.learn_bpe import learn_bpe

    lines = progress(chain.from_iterable(map(read_lines, texts)), "learning BPE", "lines")
    merges = io.StringIO()
    with _stderr_hidden_unless_terminal():
        learn_bpe(lines, merges, size)
    with replacing(path) as file:
        file.write(merges.getvalue().encode())


def _stderr_hidden_unless_terminal() -> contextlib.AbstractContextManager:
    """Return a context that hides standard error unless it is a terminal: subword-nmt's learn_bpe
    draws its progress bar in any case."""
    if sys.stderr.isatty():
        return contextlib.nullcontext()
    return contextlib.redirect_stderr(io.StringIO())


def _bpe_encoder(path: str) -> Callable[[str], str]:
    """Load BPE merges; return a function that splits a line into pieces."""
    from subword_nmt.apply_bpe import BPE

    with io.TextIOWrapper(open_input(path), encoding="utf-8") as merges:
        return BPE(merges).process_line


def _learn_sentencepiece(texts: list[str], path: str, size: int) -> None:
    """Train a sentencepiece BPE model of ``size`` pieces on all ``texts`` together, without
    normalising the text, and write the model to ``path``."""
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
    """Yield the lines of all files, with a progress bar."""
    yield from progress(chain.from_iterable(map(read_lines, texts)), "reading", "lines")


def _sentencepiece_encoder(path: str) -> Callable[[str], str]:
    """Load a sentencepiece model; return a function that splits a line into pieces."""
    encode = pieces.load(path).encode
    return lambda line: " ".join(encode(line))


SUBWORDS = {
    # as published, its dictionaries have the pieces of the training text only
    "subword-nmt": SubwordMethod("bpe.codes", "@@ ", _learn_bpe, _bpe_encoder, lambda path: []),
    "sentencepiece": SubwordMethod(
        *("sentencepiece.model", "sentencepiece", _learn_sentencepiece, _sentencepiece_encoder),
        pieces.vocabulary,
    ),
}
"""The methods of splitting words into subwords, by their names in ``--bpe``."""


def encoder(kind: str, path: str) -> Callable[[str], str]:
    """Load the learned subwords in ``path``; return a function that splits the words of a line into
    subword pieces, separated by spaces.

    ``kind`` is a value of ``--bpe``. Each process loads the file once, unless the file changes.
    """
    return _load(kind, path, os.stat(path).st_mtime_ns)


@lru_cache(maxsize=1)
def _load(kind: str, path: str, changed: int) -> Callable[[str], str]:
    """Return a function that splits text into the subwords of the file ``path``; cached.

    ``changed``, the file's modification time, lets a file that was replaced be loaded anew."""
    return SUBWORDS[kind].encoder(path)
