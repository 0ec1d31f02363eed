"""Compare the speed of beam search between stock fairseq and ours, with the same weights.

The weights come from a checkpoint of this plugin, folded (rewritten without ω) for stock, or they
are stock's initial weights, which our model loads with every residual scale ω at 1. An untrained
model does not know when to stop, so all its hypotheses are made equally long. The time measured is
the one in the last line of ``fairseq-generate``: that of ``inference_step``, without reading data
or writing text.

Block i of n consists of the batches i, i + n, i + 2n, ... of the test set, so that every block has
batches of all lengths. Stock and ours translate the same batches, in alternating order, and their
best hypotheses are compared.
"""

# no postponed annotations: fairseq's parser generator reads types
import logging
import shlex
import time
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, NoReturn, Optional, Sequence

import torch
from fairseq import options as fairseq_options
from fairseq import tasks, utils
from fairseq.dataclass import FairseqDataclass
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models import BaseFairseqModel
from fairseq.tasks import FairseqTask
from omegaconf import DictConfig

from admin_fairseq.architectures import ARCHITECTURES
from admin_fairseq.benchmarks import options as common
from admin_fairseq.benchmarks import sides
from admin_fairseq.benchmarks.options import SENTENCE_LENGTH, Workload
from admin_fairseq.benchmarks.sides import BOTH
from admin_fairseq.benchmarks.summaries import Spread, ratios, series, spread
from admin_fairseq.benchmarks.turns import take_turns
from admin_fairseq.bounds import counting
from admin_fairseq.checkpoints import building
from admin_fairseq.checkpoints.fold import fold_checkpoint
from admin_fairseq.checkpoints.storage import model_options, read_checkpoint
from admin_fairseq.errors import AdminError, blaming
from admin_fairseq.fairseq_runs import Batch, build_model
from admin_fairseq.studies.options import option, quoted
from admin_fairseq.studies.pictures import Bars, Picture
from admin_fairseq.studies.study import Row, Study

logger = logging.getLogger(__name__)

MEASURES = {
    "sentences_per_second": "sentences per second",
    "tokens_per_second": "tokens per second",
}
"""Measure → its label in pictures."""


@dataclass
class Options(FairseqDataclass):
    """The options of ``admin-fairseq benchmark generation``."""

    conditions: Workload = field(default_factory=Workload)
    path: Optional[str] = option(
        None,
        "a checkpoint of this plugin that fold supports, with its dictionaries in --data "
        "(default: untrained weights, with which every hypothesis has --length tokens)",
        metavar="CHECKPOINT",
    )
    subset: str = option("test", "split to translate")
    beam: int = option(5, "beam width", counting(1, 1000))
    length: int = option(
        SENTENCE_LENGTH, "tokens in hypotheses of untrained models", counting(1, 10_000)
    )
    batches: Optional[int] = option(
        None,
        "translate only this many batches (default: all; of made-up data, one per block)",
        counting(1),
    )
    blocks: int = common.blocks(5)
    our_words: Sequence[str] = common.ours()
    fp16: bool = option(False, "half precision, on a GPU")
    generation_words: Sequence[str] = quoted(
        (), 'options of fairseq-generate: --generate="--lenpen 0.6"', names=("--generate",)
    )


class GenerationBlock(NamedTuple):
    """Measurements and best hypotheses of stock fairseq or ours for one block of batches."""

    sentences: int
    tokens: int  # of best hypotheses, with end of sentence, as fairseq counts them
    seconds: float
    hypotheses: list[list[int]]


@dataclass(frozen=True)
class Speed:
    """Generation speed of stock fairseq or of ours: spread over the timed blocks, and totals."""

    sentences_per_second: Spread
    tokens_per_second: Spread
    tokens: int
    seconds: float


@dataclass(frozen=True)
class Ratio(Spread):
    """Speed of ours divided by that of stock fairseq.

    It is given as a spread over pairs of neighbouring blocks, and over all blocks together
    (``whole_set``).
    """

    whole_set: float


@dataclass(frozen=True)
class Result:
    """The result of ``admin-fairseq benchmark generation``.

    ``batches`` and ``sentences`` count what stock fairseq and ours each translated;
    ``command_of_both`` is the ``fairseq-generate`` command that both correspond to.
    """

    options: Options
    command_of_both: str
    weights: str
    batches: int
    stock: Speed
    ours: Speed
    ratio: Ratio
    sentences: int
    differing_hypotheses: int


def _measure(options: Options) -> Result:
    """Translate the test set with stock fairseq and ours by turns, block by block, and time both.

    Raises AdminError if the options are wrong or the checkpoint does not fit.
    """
    sides.check(options.conditions)
    if options.fp16 and not options.conditions.on_gpu:
        raise AdminError("--fp16 needs a GPU")
    if options.path and not options.conditions.data:
        raise AdminError("--path needs --data, the folder with the checkpoint's dictionaries")
    arguments = _arguments(options)
    with torch.no_grad():
        run = _parse(arguments)
        task = tasks.setup_task(run.task)
        models = (
            _of_checkpoint(options.path, options, task)
            if options.path
            else _untrained(options, task)
        )
        batches = _batches(options, run, task, models["stock"])
        ready = {name: _prepared(model, run, options) for name, model in models.items()}
        generators = {name: _generator(task, run, model) for name, model in ready.items()}

        def block_of(name: str, i: int) -> GenerationBlock:
            block = _block(task, generators[name], ready[name], batches[i :: options.blocks])
            logger.info(
                f"block {i + 1} of {options.blocks}, {name}: "
                f"{block.sentences / block.seconds:.2f} sentences/s"
            )
            return block

        for name in ready:
            _block(task, generators[name], ready[name], batches[:1])
        turns = {name: partial(block_of, name) for name in ready}
        blocks = take_turns(turns, options.blocks)
    return _result(options, shlex.join(["fairseq-generate", *arguments]), len(batches), blocks)


def _arguments(options: Options) -> list[str]:
    """Return the arguments of ``fairseq-generate`` that stock and ours share."""
    workload = options.conditions
    lengths = []
    if not options.path:
        lengths = ["--max-len-a", "0", "--max-len-b", str(options.length)]
        lengths += ["--min-len", str(options.length)]
    return [
        *sides.source(workload, max(SENTENCE_LENGTH, options.length)),
        *("--path", options.path or "untrained.pt", "--gen-subset", options.subset),
        *("--beam", str(options.beam), "--max-tokens", str(workload.max_tokens)),
        *("--seed", str(workload.seed), "--num-workers", "0", *lengths),
        *("--required-batch-size-multiple", "1"),  # or fairseq-fixed leaves out the end
        *(["--cpu"] if workload.cpu else []),
        *(["--fp16"] if options.fp16 else []),
        *options.generation_words,
    ]


def _parse(words: Sequence[str]) -> DictConfig:
    """Parse arguments of ``fairseq-generate`` into fairseq's configuration.

    Raises AdminError where fairseq refuses them.
    """
    parser = fairseq_options.get_generation_parser()

    def refuse(message: str) -> NoReturn:
        raise AdminError(f"fairseq-generate's options: {message}")

    parser.error = refuse
    args = fairseq_options.parse_args_and_arch(parser, list(words))
    return convert_namespace_to_omegaconf(args)


def _untrained(options: Options, task: FairseqTask) -> dict[str, BaseFairseqModel]:
    """Build a stock model with random weights for the seed, and our model with the same weights."""
    run = sides.stock(options.conditions).run
    torch.manual_seed(run.common.seed)
    stock = building.for_inference(build_model(run, task))
    mine = sides.ours(options.conditions, words=options.our_words).run
    ours = building.for_inference(build_model(mine, task))
    with blaming(f"stock's weights in {options.conditions.arch}"):
        building.load_weights(ours, stock.state_dict())
    return {"stock": stock, "ours": ours}


def _of_checkpoint(path: str, options: Options, task: FairseqTask) -> dict[str, BaseFairseqModel]:
    """Build our model from its checkpoint and ``--ours``, and a stock model that computes the same.

    The stock model gets the folded weights, which contain Admin's residual scales ω. Raises
    AdminError if the checkpoint is not a translation model of this plugin, or its vocabulary is not
    that of the data.
    """
    state = read_checkpoint(path)
    mine = model_options(state)
    arch = ARCHITECTURES.get(mine["_name"])
    if arch is None or arch.model != "admin_transformer":
        raise AdminError(
            f"{path}: a model of architecture {mine['_name']}; only this plugin's translation "
            "models can be measured"
        )
    ours = {**mine, "autocast": None, **_overrides(options)}
    with blaming(path):
        folded, _ = fold_checkpoint(state)
        models = {
            "stock": building.build(model_options(folded), folded["model"]),
            "ours": building.build(ours, state["model"], ours["autocast"]),
        }
    types = len(models["ours"].decoder.dictionary)
    if types != len(task.target_dictionary):
        raise AdminError(
            f"{path}: the checkpoint's vocabulary has {types} types, that of "
            f"{options.conditions.data} {len(task.target_dictionary)}"
        )
    return models


def _overrides(options: Options) -> dict[str, Any]:
    """Return the model options that ``--ours`` changes, with their new values.

    ``--ours`` holds the user's options for our model only.
    """
    plain, changed = (
        sides.ours(options.conditions, words=words).run.model for words in ((), options.our_words)
    )
    return {name: value for name, value in changed.items() if value != plain[name]}


def _batches(
    options: Options, run: DictConfig, task: FairseqTask, model: BaseFairseqModel
) -> list[Batch]:
    """Load the test set's batches in fairseq's order, limited to ``--batches``.

    Raises AdminError if the data is missing or there are fewer batches than blocks.
    """
    count = options.batches
    if count is None and not options.conditions.data:
        count = options.blocks
    try:
        task.load_dataset(options.subset)
    except FileNotFoundError as error:
        raise AdminError(f"--subset {options.subset}: {error}") from None
    epoch = task.get_batch_iterator(
        dataset=task.dataset(options.subset),
        max_tokens=run.dataset.max_tokens,
        max_positions=utils.resolve_max_positions(task.max_positions(), model.max_positions()),
        ignore_invalid_inputs=True,
        required_batch_size_multiple=run.dataset.required_batch_size_multiple,
        seed=run.common.seed,
    ).next_epoch_itr(shuffle=False)
    batches = list(islice(epoch, count))
    if len(batches) < options.blocks:
        raise AdminError(
            f"{len(batches)} batches of {options.subset} for {options.blocks} blocks: "
            "ask for fewer --blocks, or a smaller --max-tokens"
        )
    return [utils.move_to_cuda(b) for b in batches] if options.conditions.on_gpu else batches


def _prepared(model: BaseFairseqModel, run: DictConfig, options: Options) -> BaseFairseqModel:
    """Prepare the model for inference, in place, as ``fairseq-generate`` does."""
    if options.fp16:
        model.half()
    if options.conditions.on_gpu:
        model.cuda()
    model.prepare_for_inference_(run)
    return model


def _generator(task: FairseqTask, run: DictConfig, model: BaseFairseqModel) -> Any:
    """Build fairseq's sequence generator for ``model``, without a language model."""
    alone = {"lm_model": None, "lm_weight": run.generation.lm_weight}
    return task.build_generator([model], run.generation, extra_gen_cls_kwargs=alone)


def _block(
    task: FairseqTask, generator: Any, model: BaseFairseqModel, batches: Sequence[Batch]
) -> GenerationBlock:
    """Translate ``batches``; returns the time, the counts and the best hypotheses."""
    found = []
    start = time.perf_counter()
    for batch in batches:
        found += task.inference_step(generator, [model], batch)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    best = [hypotheses[0]["tokens"].tolist() for hypotheses in found]
    return GenerationBlock(len(best), sum(map(len, best)), seconds, best)


def _result(
    options: Options, command: str, batches: int, blocks: dict[str, list[GenerationBlock]]
) -> Result:
    """Combine the blocks of stock fairseq and ours into the result of the study."""
    stock, ours = (_speed(blocks[name]) for name in BOTH)
    by_block = ratios(ours.sentences_per_second.by_block, stock.sentences_per_second.by_block)
    return Result(
        options=options,
        command_of_both=command,
        weights=options.path or "untrained",
        batches=batches,
        stock=stock,
        ours=ours,
        ratio=Ratio(**vars(spread(by_block)), whole_set=stock.seconds / ours.seconds),
        sentences=sum(block.sentences for block in blocks["stock"]),
        differing_hypotheses=sum(
            mine != theirs
            for pair in zip(blocks["ours"], blocks["stock"])
            for mine, theirs in zip(*(block.hypotheses for block in pair))
        ),
    )


def _speed(blocks: Sequence[GenerationBlock]) -> Speed:
    """Summarise the blocks of stock fairseq or of ours."""
    return Speed(
        sentences_per_second=spread([block.sentences / block.seconds for block in blocks]),
        tokens_per_second=spread([block.tokens / block.seconds for block in blocks]),
        tokens=sum(block.tokens for block in blocks),
        seconds=sum(block.seconds for block in blocks),
    )


def _rows(result: Result) -> list[Row]:
    """Return the rows of the CSV file: one per side (stock fairseq or ours) and block."""
    return [
        {"side": side, "block": block, "sentences_per_second": speed, "tokens_per_second": tokens}
        for side in BOTH
        for block, (speed, tokens) in enumerate(
            zip(*(getattr(getattr(result, side), name).by_block for name in MEASURES)), 1
        )
    ]


def _draw(result: Result) -> dict[str, Picture]:
    """Describe the picture: bars of sentences and of tokens per second."""
    title = f"Generation, beam {result.options.beam}"
    pictures = []
    for name, label in MEASURES.items():
        found = [getattr(getattr(result, side), name) for side in BOTH]
        pictures.append(Bars(title, label, BOTH, [series(label, found)]))
    return {"generation": Picture(title, pictures)}


def _read(result: Result) -> list[str]:
    """Return the findings as lines of text: speeds, their ratio, and differing hypotheses."""
    ratio = result.ratio
    lines = [
        f"Generation, beam {result.options.beam}, {result.sentences} sentences in "
        f"{result.batches} batches, {result.weights} weights: median of "
        f"{result.options.blocks} blocks in alternating order (lowest to highest)"
    ]
    for side, found in (("stock", result.stock), ("ours", result.ours)):
        speed, tokens = found.sentences_per_second, found.tokens_per_second
        lines.append(
            f"{side}: {speed.median:.2f} sentences/s ({speed.lowest:.2f} to "
            f"{speed.highest:.2f}), {tokens.median:.1f} tokens/s"
        )
    return [
        *lines,
        f"ratio ours/stock: {ratio.median:.3f} ({ratio.lowest:.3f} to "
        f"{ratio.highest:.3f}), over the whole set {ratio.whole_set:.3f}",
        f"best hypotheses that differ: {result.differing_hypotheses} of {result.sentences}",
    ]


STUDY = Study(
    help="measure beam search as fairseq-generate does it, stock and ours with the same weights: "
    "sentences and tokens per second, and how many best hypotheses differ",
    options=Options,
    measure=_measure,
    rows=_rows,
    draw=_draw,
    read=_read,
    pictures=["generation"],
)
