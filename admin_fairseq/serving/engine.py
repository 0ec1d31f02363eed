"""Load exported models with CTranslate2, and split lines into pieces for them."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Any, Callable, Iterable, Iterator, NamedTuple, Optional, TypeVar

from admin_fairseq.bounds import Bounds, counting
from admin_fairseq.errors import AdminError
from admin_fairseq.files import read_json
from admin_fairseq.pieces import PIECES, Pieces, Subwords, check_split, load
from admin_fairseq.serving.description import (
    LANGUAGE_MODEL_VOCABULARIES,
    SENTENCEPIECE_MODEL,
    TRANSLATION_VOCABULARIES,
    Positions,
    read_description,
)
from admin_fairseq.serving.export import ctranslate2

ResultT = TypeVar("ResultT")
logger = logging.getLogger(__name__)

THREADS = counting(1, 1024)
BOUNDS = {
    "batch_size": counting(1, 1 << 16),
    "beam": counting(1, 1000),
    "max_len_b": counting(1),
    "max_tokens": counting(1, 1 << 20),
    "min_len": counting(0),
    "sampling_topk": counting(1, 1 << 24),
    "sampling_topp": Bounds(1e-6, 1),
    "temperature": Bounds(1e-3, 1e3),
    "seed": counting(0, 2**32 - 2),  # CTranslate2 takes 2**32 - 1 for none
    "inter_threads": THREADS,
    "intra_threads": THREADS,
}
"""Option → its allowed values; larger ones would need more memory or threads than machines have."""
NEVER_GENERATED = "<blank>"
"""The converter's name of fairseq's padding symbol, which fairseq's search never selects either."""
NOT_SHOWN = {"<s>", "</s>"}
"""Symbols that fairseq leaves out of its output."""
FAILURES = (LookupError, MemoryError, RuntimeError, ValueError)
"""Exceptions that CTranslate2 raises for a model that it cannot load or use."""


class Engine(NamedTuple):
    """A kind of model: CTranslate2's class for it, the subcommand that uses it, its vocabularies.

    ``memory`` names the options of the subcommand that determine how much memory it needs.
    """

    kind: str
    name: str
    command: str
    vocabularies: tuple[str, ...]
    memory: str


TRANSLATOR = Engine(
    "translation model",
    "Translator",
    "translate",
    TRANSLATION_VOCABULARIES,
    "--max-tokens and --beam",
)
GENERATOR = Engine(
    "language model",
    "Generator",
    "generate",
    LANGUAGE_MODEL_VOCABULARIES,
    "--batch-size and --beam",
)


@dataclass(frozen=True)
class EngineOptions:
    """Options of loading a model, for every engine."""

    model: str
    sentencepiece_model: Optional[str] = None  # None: the one in the model's folder, if any
    device: str = "auto"
    inter_threads: Optional[int] = None  # None: one for every core or GPU
    intra_threads: int = 1


def checked_positions(model: str) -> Positions:
    """Return the longest sentences of the exported model in the folder ``model``.

    Raises AdminError if a file in it is damaged, or has changed since the export.
    """
    description = read_description(model)
    description.check(model)
    return description.positions


def load_engine(engine: Engine, options: EngineOptions) -> Any:
    """Load the model and return CTranslate2's object; raise AdminError if it fails."""
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
    _refuse_other_kinds(engine, options.model)
    try:
        return getattr(package, engine.name)(
            options.model,
            device=options.device,
            inter_threads=workers,
            intra_threads=options.intra_threads,
        )
    except FAILURES as error:
        raise AdminError(f"{options.model}: cannot be loaded: {error}") from None


def _refuse_other_kinds(engine: Engine, model: str) -> None:
    """Raise AdminError, which names the right subcommand, if ``model`` is for another engine."""
    files = set(os.listdir(model))
    for other in (TRANSLATOR, GENERATOR):
        names = {f"{name}.{end}" for name in other.vocabularies for end in ("json", "txt")}
        if other is not engine and files & names:
            raise AdminError(f"{model}: a {other.kind}; use admin-fairseq {other.command}")


def _cores(device: str) -> int:
    """Return the default number of parallel workers: 1 on a GPU, else the number of CPU cores."""
    on_gpu = device == "cuda" or (device == "auto" and ctranslate2().get_cuda_device_count() > 0)
    return 1 if on_gpu else os.cpu_count() or 1


def subwords_of(engine: Engine, options: EngineOptions) -> Subwords:
    """Return functions that split a line into pieces and join them, by the sentencepiece model.

    It is the one in ``options`` or in the model's folder; without any, pieces are split at spaces,
    and the log says so: plain text would be translated badly, with no other sign of why. Raises
    AdminError if the one in ``options`` has other pieces than the exported model.
    """
    own = os.path.join(options.model, SENTENCEPIECE_MODEL)
    if options.sentencepiece_model is not None:
        for path in _vocabularies(engine, options.model):
            symbols = read_json(path, list[str], "a vocabulary of CTranslate2")
            check_split(options.sentencepiece_model, symbols, path)
    elif not os.path.exists(own):
        logger.info("%s has no sentencepiece model: lines are read as pieces", options.model)
        return PIECES
    return load(options.sentencepiece_model or own)


def _vocabularies(engine: Engine, model: str) -> list[str]:
    """Return the files of the exported model's vocabularies, in the format of CTranslate2 3 on."""
    paths = (os.path.join(model, f"{name}.json") for name in engine.vocabularies)
    return [path for path in paths if os.path.exists(path)]


def split(lines: Iterable[str], encode: Callable[[str], Pieces], longest: int) -> Iterator[Pieces]:
    """Yield the pieces of every line, at most ``longest``; warn where the rest is cut off."""
    for number, line in enumerate(lines, start=1):
        pieces = encode(line)
        if len(pieces) > longest:
            message = "line %d has %d pieces; only the first %d are read"
            logger.warning(message, number, len(pieces), longest)
        yield pieces[:longest]


def shown(pieces: Pieces) -> Pieces:
    """Return ``pieces`` without the symbols that fairseq leaves out of its output."""
    return [piece for piece in pieces if piece not in NOT_SHOWN]


def usable(results: Iterable[ResultT], engine: Engine, model: str) -> Iterator[ResultT]:
    """Yield the ``results`` of CTranslate2; raise AdminError if using ``model`` fails."""
    try:
        yield from results
    except FAILURES as error:
        raise AdminError(
            f"{model}: cannot {engine.command}: {error} (is the model complete? is there memory "
            f"for {engine.memory}?)"
        ) from None
