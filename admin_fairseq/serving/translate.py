"""Translate a stream of lines with a model exported to CTranslate2."""

from __future__ import annotations

import logging
import os
from collections import deque
from dataclasses import astuple, dataclass
from typing import Any, Iterable, Iterator, Optional, TypeVar

from admin_fairseq.bounds import counting
from admin_fairseq.errors import AdminError
from admin_fairseq.pieces import PIECES, Pieces, Subwords, load
from admin_fairseq.serving.description import SENTENCEPIECE_MODEL, read_description
from admin_fairseq.serving.export import ctranslate2

ResultT = TypeVar("ResultT")
logger = logging.getLogger(__name__)

THREADS = counting(1, 1024)
BOUNDS = {
    "beam": counting(1, 1000),
    "max_len_b": counting(1),
    "max_tokens": counting(1, 1 << 20),
    "inter_threads": THREADS,
    "intra_threads": THREADS,
}
"""Option → its allowed values; larger ones would need more memory or threads than machines have."""
FAILURES = (LookupError, MemoryError, RuntimeError, ValueError)
"""Exceptions that CTranslate2 raises for a model that it cannot load or use."""


@dataclass(frozen=True)
class TranslationOptions:
    """Options of translating; the defaults of beam search are fairseq-generate's."""

    model: str
    sentencepiece_model: Optional[str] = None  # None: the one in the model's folder, if any
    beam: int = 5
    lenpen: float = 1.0
    max_len_b: int = 200
    max_tokens: int = 4096
    device: str = "auto"
    inter_threads: Optional[int] = None  # None: one for every core or GPU
    intra_threads: int = 1


def translate(lines: Iterable[str], options: TranslationOptions) -> Iterator[str]:
    """Yield a translation for every line, in order, while lines are still being read.

    Loads the model, splits each line into sentencepiece pieces, and joins the pieces of its
    translation; without a sentencepiece model, lines are pieces separated by spaces. An empty line
    stays empty; a line longer than the model's positions is cut, with a warning. Raises AdminError
    if the model cannot be loaded or used.
    """
    description = read_description(options.model)
    description.check(options.model)
    longest_source, longest_target = (n - 1 for n in astuple(description.positions))
    translator = _translator(options)
    encode, decode = _subwords(options)
    empty: deque[bool] = deque()

    def sources() -> Iterator[Pieces]:
        for number, line in enumerate(lines, start=1):
            pieces = encode(line)
            empty.append(not pieces)
            if len(pieces) > longest_source:
                message = "line %d has %d pieces, the model can read %d: the rest is cut off"
                logger.warning(message, number, len(pieces), longest_source)
            yield pieces[:longest_source]

    results = translator.translate_iterable(
        sources(),
        max_batch_size=options.max_tokens,
        batch_type="tokens",
        beam_size=options.beam,
        length_penalty=options.lenpen,
        max_decoding_length=min(options.max_len_b, longest_target),
        max_input_length=0,  # sources() cuts them
    )
    found = _usable(results, options.model)
    return ("" if empty.popleft() else decode(result.hypotheses[0]) for result in found)


def _usable(results: Iterable[ResultT], model: str) -> Iterator[ResultT]:
    """Yield ``results`` of CTranslate2; raise AdminError if translating with ``model`` fails."""
    try:
        yield from results
    except FAILURES as error:
        raise AdminError(
            f"{model}: cannot translate: {error} (is the model complete? is there memory for "
            "--max-tokens and --beam?)"
        ) from None


def _translator(options: TranslationOptions) -> Any:
    """Load the model with CTranslate2 and return its translator; raise AdminError if it fails."""
    package = ctranslate2()
    workers = options.inter_threads or _cores(options.device)
    if workers * options.intra_threads not in THREADS:
        raise AdminError(
            f"--inter-threads {workers} with --intra-threads {options.intra_threads}: their "
            f"product must be {THREADS}"
        )
    if not package.contains_model(options.model):
        raise AdminError(
            f"{options.model}: not a CTranslate2 model; make one with admin-fairseq export"
        )
    try:
        return package.Translator(
            options.model,
            device=options.device,
            inter_threads=workers,
            intra_threads=options.intra_threads,
        )
    except FAILURES as error:
        raise AdminError(f"{options.model}: cannot be loaded: {error}") from None


def _cores(device: str) -> int:
    """Return the default number of parallel workers: 1 on a GPU, else the number of CPU cores."""
    on_gpu = device == "cuda" or (device == "auto" and ctranslate2().get_cuda_device_count() > 0)
    return 1 if on_gpu else os.cpu_count() or 1


def _subwords(options: TranslationOptions) -> Subwords:
    """Return functions that split a line into pieces and join them, by the sentencepiece model.

    It is the one in ``options`` or in the model's folder; without any, pieces are split at spaces.
    """
    path = options.sentencepiece_model or os.path.join(options.model, SENTENCEPIECE_MODEL)
    if options.sentencepiece_model is None and not os.path.exists(path):
        return PIECES
    return load(path)
