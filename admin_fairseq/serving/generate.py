"""Continue a stream of prompts with a language model exported to CTranslate2."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Iterable, Iterator, NamedTuple, Optional

from admin_fairseq.bounds import spelled
from admin_fairseq.errors import AdminError
from admin_fairseq.files import read_json
from admin_fairseq.pieces import Pieces, Subwords
from admin_fairseq.serving.engine import (
    GENERATOR,
    NEVER_GENERATED,
    EngineOptions,
    checked_positions,
    load_engine,
    shown,
    split,
    subwords_of,
    usable,
)
from admin_fairseq.serving.export import ctranslate2

ANY_SEED = 2**32 - 1  # has CTranslate2 choose one for every worker
TINY = 1e-9  # stands for a length penalty of 0, for which CTranslate2 searches longer
AHEAD = 16  # batches read at a time, so that prompts of similar length share a batch


@dataclass(frozen=True)
class GenerationOptions(EngineOptions):
    """Options of continuing prompts, which mean what those of fairseq-generate mean.

    The default of ``beam`` is that of ``sample`` in fairseq's hub interface.
    """

    beam: int = 1
    lenpen: float = 1.0
    max_len_b: int = 200
    min_len: int = 1
    sampling: bool = False
    sampling_topk: Optional[int] = None  # None: all
    sampling_topp: Optional[float] = None  # None: all
    temperature: float = 1.0
    seed: Optional[int] = None  # None: other samples each time
    batch_size: int = 32


@dataclass(frozen=True)
class Symbols:
    """The symbols before and after a text, as config.json of CTranslate2 records them."""

    bos_token: str
    eos_token: str


class _Model(NamedTuple):
    """A loaded model, and the most pieces of a line, prompt included."""

    generator: Any
    symbols: Symbols
    subwords: Subwords
    longest: int


def generate(lines: Iterable[str], options: GenerationOptions) -> Iterator[str]:
    """Yield every line and its continuation, in order, while lines are still being read.

    Loads the model, splits each line into sentencepiece pieces, and joins the pieces of the result;
    without a sentencepiece model, lines are pieces separated by spaces. The result is that of
    fairseq's search with the line as prefix tokens. A line longer than ``max_len_b`` or the model's
    positions is cut, with a warning. Raises AdminError if options contradict each other, or the
    model cannot be loaded or used.
    """
    model = _load(options)
    prompts = split(lines, model.subwords.encode, model.longest)
    continued = usable(_continue_all(prompts, model, options), GENERATOR, options.model)
    return map(model.subwords.decode, continued)


def stream(lines: Iterable[str], options: GenerationOptions) -> Iterator[str]:
    """Yield the same text in parts, as soon as they are made; a line's last ends with a newline.

    Lines are read one by one. Raises AdminError as ``generate`` does, and for a beam.
    """
    if options.beam > 1:
        raise AdminError("--beam above 1 yields no part of a line before the whole line")
    model = _load(options)
    prompts = split(lines, model.subwords.encode, model.longest)
    parts = (part for prompt in prompts for part in _parts(prompt, model, options))
    return usable(parts, GENERATOR, options.model)


def _load(options: GenerationOptions) -> _Model:
    """Check the options, set the seed and load the model."""
    longest = min(options.max_len_b, checked_positions(options.model).target - 1)
    _check(options, longest)
    # before the workers start, which read it
    ctranslate2().set_random_seed(ANY_SEED if options.seed is None else options.seed)
    if options.seed is not None:
        options = replace(options, inter_threads=1)  # several would draw the same numbers
    generator = load_engine(GENERATOR, options)
    path = os.path.join(options.model, "config.json")
    symbols = read_json(path, Symbols, "the configuration of a language model")
    return _Model(generator, symbols, subwords_of(GENERATOR, options), longest)


def _check(options: GenerationOptions, longest: int) -> None:
    """Raise AdminError if options contradict each other, or the ``longest`` line."""
    for name in ("sampling_topk", "sampling_topp", "temperature", "seed"):
        if not options.sampling and getattr(options, name) != getattr(GenerationOptions, name):
            raise AdminError(f"{spelled(name)} has no effect without --sampling")
    if options.min_len > longest:
        raise AdminError(f"--min-len {options.min_len}: the longest line has {longest} pieces")
    if options.seed is not None and (options.inter_threads or 1) > 1:
        raise AdminError(
            "--seed repeats samples with one worker only; use --intra-threads instead of "
            "--inter-threads"
        )


def _search(options: GenerationOptions) -> dict[str, Any]:
    """Return the arguments of CTranslate2 for choosing the next piece."""
    chosen: dict[str, Any] = {"suppress_sequences": [[NEVER_GENERATED]]}
    if options.sampling:
        chosen.update(
            sampling_topk=options.sampling_topk or 0,
            sampling_topp=options.sampling_topp or 1,
            sampling_temperature=options.temperature,
        )
    return chosen


def _continue_all(
    prompts: Iterable[Pieces], model: _Model, options: GenerationOptions
) -> Iterator[Pieces]:
    """Yield the pieces of every prompt and its likeliest continuation."""
    prompts = iter(prompts)
    while chunk := list(islice(prompts, AHEAD * options.batch_size)):
        results = model.generator.generate_batch(
            [[model.symbols.bos_token, *prompt] for prompt in chunk],
            max_batch_size=options.batch_size,
            beam_size=1 if options.sampling else options.beam,
            num_hypotheses=options.beam,
            length_penalty=options.lenpen or TINY,
            return_scores=options.beam > 1,
            return_end_token=True,
            max_length=model.longest,
            min_length=options.min_len,
            **_search(options),
        )
        for prompt, pieces in zip(chunk, _likeliest(chunk, results, model, options)):
            yield prompt + shown(pieces[len(prompt) :])


def _likeliest(
    prompts: list[Pieces], results: list[Any], model: _Model, options: GenerationOptions
) -> list[Pieces]:
    """Return the best line for each prompt by fairseq's score, (Σ log p) / length^lenpen.

    Both the sum and the length include the prompt and the end symbol. The sum in CTranslate2's own
    score leaves out the prompt, and the end symbol of a line that is cut.
    """
    if options.beam == 1:
        return [result.sequences[0] for result in results]
    end = model.symbols.eos_token
    cut = [[*p, end] for result in results for p in result.sequences if p[-1] != end]
    of_cut = iter(_log_probabilities(cut, model, options))

    def score(before: float, pieces: Pieces, after: float) -> float:
        if pieces[-1] != end:
            return next(of_cut) / (len(pieces) + 1) ** options.lenpen
        return before / len(pieces) ** options.lenpen + after

    likeliest = []
    for before, result in zip(_log_probabilities(prompts, model, options), results):
        scores = [score(before, *found) for found in zip(result.sequences, result.scores)]
        likeliest.append(result.sequences[scores.index(max(scores))])
    return likeliest


def _log_probabilities(
    lines: Iterable[Pieces], model: _Model, options: GenerationOptions
) -> list[float]:
    """Return the sum of the log-probabilities of each line's pieces."""
    scored = model.generator.score_batch(
        [[model.symbols.bos_token, *pieces] for pieces in lines],
        max_batch_size=options.batch_size,
        max_input_length=0,
    )
    return [sum(result.log_probs) for result in scored]


def _parts(prompt: Pieces, model: _Model, options: GenerationOptions) -> Iterator[str]:
    """Yield the prompt, the text that each further piece adds to it, and a newline.

    A character of several pieces (bytes) is added when it is complete.
    """
    decode, pieces, room = model.subwords.decode, list(prompt), model.longest - len(prompt)
    text = decode(pieces)
    yield text
    steps = model.generator.generate_tokens(
        [model.symbols.bos_token, *prompt],
        max_length=room,
        min_length=max(0, options.min_len - len(prompt)),
        **_search(options),
    )
    for step in steps if room else ():
        pieces += shown([step.token])
        longer = decode(pieces).rstrip("\ufffd")
        yield longer[len(text) :]
        text = longer
    yield decode(pieces)[len(text) :] + "\n"
