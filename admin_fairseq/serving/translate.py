"""Translate a stream of lines with a model exported to CTranslate2."""

from __future__ import annotations

from collections import deque
from dataclasses import astuple, dataclass
from typing import Iterable, Iterator

from admin_fairseq.pieces import Pieces
from admin_fairseq.serving.engine import (
    NEVER_GENERATED,
    TRANSLATOR,
    EngineOptions,
    checked_positions,
    load_engine,
    shown,
    split,
    subwords_of,
    usable,
)


@dataclass(frozen=True)
class TranslationOptions(EngineOptions):
    """Options of translating; the defaults of beam search are fairseq-generate's."""

    beam: int = 5
    lenpen: float = 1.0
    max_len_b: int = 200
    max_tokens: int = 4096


def translate(lines: Iterable[str], options: TranslationOptions) -> Iterator[str]:
    """Yield a translation for every line, in order, while lines are still being read.

    Loads the model, splits each line into sentencepiece pieces, and joins the pieces of its
    translation; without a sentencepiece model, lines are pieces separated by spaces. An empty line
    stays empty; a line longer than the model's positions is cut, with a warning. Raises AdminError
    if the model cannot be loaded or used.
    """
    longest_source, longest_target = (n - 1 for n in astuple(checked_positions(options.model)))
    translator = load_engine(TRANSLATOR, options)
    encode, decode = subwords_of(TRANSLATOR, options)
    empty: deque[bool] = deque()

    def sources() -> Iterator[Pieces]:
        for pieces in split(lines, encode, longest_source):
            empty.append(not pieces)
            yield pieces

    results = translator.translate_iterable(
        sources(),
        max_batch_size=options.max_tokens,
        batch_type="tokens",
        beam_size=options.beam,
        length_penalty=options.lenpen,
        max_decoding_length=min(options.max_len_b, longest_target),
        max_input_length=0,  # split() cuts them
        suppress_sequences=[[NEVER_GENERATED]],
    )
    found = usable(results, TRANSLATOR, options.model)
    return ("" if empty.popleft() else decode(shown(result.hypotheses[0])) for result in found)
