"""Compare the training speed and losses of several configurations of ours with stock.

For every configuration, stock and ours are built once; after some untimed updates, both train on
the same batches in blocks, in alternating order. Ratios are of neighbouring blocks of ours and
stock. Words are target words including end of sentence, as in fairseq's ``wps``.

For the losses, stock and ours start from stock's weights and train on the same batches with a
learning rate that warms up and decays. Dropout masks differ, since the kernels draw them
differently.
"""

# no postponed annotations: fairseq's parser generator reads types
import logging
import shlex
from argparse import ArgumentTypeError
from dataclasses import dataclass, field
from statistics import mean
from typing import Optional, Sequence

from fairseq import tasks
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics
from fairseq.tasks import FairseqTask

from admin_fairseq.benchmarks import options as common
from admin_fairseq.benchmarks import sides
from admin_fairseq.benchmarks.options import Workload
from admin_fairseq.benchmarks.sides import BOTH, Side
from admin_fairseq.benchmarks.summaries import Spread, ratios, series, spread
from admin_fairseq.benchmarks.trainers import (
    TrainingBlock,
    alternate,
    compiled_graphs,
    initial_weights,
    losses,
    timed_block,
    warmed_up,
)
from admin_fairseq.bounds import Bounds, counting
from admin_fairseq.errors import AdminError, blaming
from admin_fairseq.fairseq_runs import Batch, first_batches
from admin_fairseq.studies.options import option, repeated, split_words
from admin_fairseq.studies.pictures import Bars, Picture
from admin_fairseq.studies.study import Row, Study

logger = logging.getLogger(__name__)

CHUNKED = ("--criterion", "label_smoothed_cross_entropy_chunked")
FUSED = (*CHUNKED, "--optimizer", "adam_fused")
AUTOCAST = (*FUSED, "--autocast", "bfloat16")

CONFIGURATIONS = {
    "reference kernels": ("--reference-kernels",),
    "fast paths": (),
    "+ chunked loss": CHUNKED,
    "+ fused adam": FUSED,
    "+ compile": (*FUSED, "--compile"),
    "+ autocast bfloat16": AUTOCAST,
    "+ autocast bfloat16 + compile": (*AUTOCAST, "--compile"),
}
"""Configuration → options of our model only."""

AVERAGED = 20
"""The number of last updates whose losses are averaged."""


def configuration(text: str) -> tuple[str, tuple[str, ...]]:
    """Parse ``--config``: the NAME of a known configuration, or ``NAME: OPTIONS``.

    Returns the name and the options as arguments. Raises ArgumentTypeError for other text.
    """
    name, colon, options = text.partition(":")
    if not colon and name in CONFIGURATIONS:
        return name, CONFIGURATIONS[name]
    if not colon or not name.strip():
        known = ", ".join(CONFIGURATIONS)
        raise ArgumentTypeError(f"{text!r} is neither 'NAME: OPTIONS' nor one of {known}")
    return name.strip(), split_words(options)


def _as_typed(one: tuple[str, Sequence[str]]) -> str:
    """Return a configuration as the text that ``configuration`` parses."""
    name, options = one
    return f"{name}: {shlex.join(options)}"


@dataclass
class Options(FairseqDataclass):
    """The options of ``admin-fairseq benchmark training``."""

    conditions: Workload = field(default_factory=Workload)
    configurations: Sequence[tuple[str, Sequence[str]]] = repeated(
        tuple(CONFIGURATIONS.items()),
        "a configuration of ours: options for our model only, or just the name of a known one: "
        f"{', '.join(CONFIGURATIONS)} (may be repeated; default: all of these)",
        names=("--config",),
        type=configuration,
        written=_as_typed,
        metavar="'NAME: OPTIONS'",
    )
    stock_words: Sequence[str] = common.stock()
    updates: int = common.updates(4)
    blocks: int = common.blocks(5)
    warmup_updates: int = common.warmup_updates(3)
    loss_updates: int = option(
        0, "compare losses after this many updates; 0: do not compare", counting(0)
    )
    loss_of: Sequence[str] = repeated(
        (),
        "a configuration whose loss is compared (may be repeated; default: all)",
        metavar="NAME",
    )
    loss_lr: float = option(5e-4, "peak learning rate when losses are compared", Bounds(0))


@dataclass(frozen=True)
class Speed:
    """Training speed of stock fairseq or of ours: the spread over its timed blocks."""

    words_per_second: Spread
    parameters: int
    skipped_updates: int


@dataclass(frozen=True)
class Compared:
    """Training speed of one configuration of ours, and of stock fairseq measured beside it.

    ``ratio`` is ours/stock; ``compiled_graphs`` are the numbers of graphs that torch.compile made
    in the warm-up and in the timed blocks.
    """

    name: str
    command: str
    stock: Speed
    ours: Speed
    ratio: Spread
    compiled_graphs: dict[str, int]


@dataclass(frozen=True)
class Loss:
    """Losses of stock fairseq or of one configuration of ours, by update.

    ``loss`` is the mean of the last updates, ``relative_difference`` its difference from stock's.
    """

    name: str
    command: str
    loss: float
    relative_difference: float
    by_update: list[float]


@dataclass(frozen=True)
class LossComparison:
    """Losses of stock fairseq and of configurations of ours after the same ``updates``.

    Each is the mean of the last ``averaged`` updates.
    """

    updates: int
    averaged: int
    runs: list[Loss]


@dataclass(frozen=True)
class Result:
    """The result of ``admin-fairseq benchmark training``.

    ``losses`` is None without ``--loss-updates``.
    """

    options: Options
    stock_command: str
    configurations: list[Compared]
    losses: Optional[LossComparison]


def _measure(options: Options) -> Result:
    """Compare the speed of every configuration with stock fairseq and, if asked, the losses.

    Raises AdminError if the options are wrong or there is not enough memory.
    """
    named = dict(options.configurations)
    unknown = set(options.loss_of) - set(named)
    if unknown:
        raise AdminError(f"no configuration {sorted(unknown)[0]!r}; choose from {', '.join(named)}")
    sides.check(options.conditions)
    stock = sides.stock(options.conditions, words=options.stock_words)
    ours = [sides.ours(options.conditions, name, words) for name, words in named.items()]
    for side in (stock, *ours):
        side.check()  # before anything runs
    with metrics.aggregate(new_root=True):
        run = stock.run
        task = tasks.setup_task(run.task)
        count = options.warmup_updates + options.updates * options.blocks
        batches = first_batches(task, run, max(count, options.loss_updates))
        speeds = [_compared(stock, side, task, batches[:count], options) for side in ours]
        found = None
        if options.loss_updates:
            some = [side for side in ours if side.name in (options.loss_of or named)]
            found = _losses(stock, some, task, batches[: options.loss_updates], options.loss_lr)
    return Result(options, stock.command, speeds, found)


def _compared(
    stock: Side, ours: Side, task: FairseqTask, batches: list[Batch], options: Options
) -> Compared:
    """Train stock fairseq and one configuration of ours by turns, and compare their speeds."""

    def describe(name: str, i: int, block: TrainingBlock) -> str:
        speed = f"{block.words_per_second:.1f} words/s"
        return f"{ours.name}: block {i + 1} of {options.blocks}, {name}: {speed}"

    warmup, graphs = options.warmup_updates, [compiled_graphs()]
    trainers = warmed_up({"stock": stock, "ours": ours}, task, batches[:warmup])
    graphs.append(compiled_graphs())
    blocks = alternate(trainers, batches[warmup:], options.updates, timed_block, describe)
    speeds = {name: _speed(some) for name, some in blocks.items()}
    graphs.append(compiled_graphs())
    by_block = ratios(*(speeds[name].words_per_second.by_block for name in ("ours", "stock")))
    return Compared(
        name=ours.name,
        command=ours.command,
        **speeds,
        ratio=spread(by_block),
        compiled_graphs={"warm_up": graphs[1] - graphs[0], "blocks": graphs[2] - graphs[1]},
    )


def _speed(blocks: Sequence[TrainingBlock]) -> Speed:
    """Summarise the timed blocks of stock fairseq or of ours."""
    return Speed(
        words_per_second=spread([block.words_per_second for block in blocks]),
        parameters=blocks[0].parameters,
        skipped_updates=sum(block.skipped_updates for block in blocks),
    )


def _losses(
    stock: Side, ours: Sequence[Side], task: FairseqTask, batches: list[Batch], peak: float
) -> LossComparison:
    """Train stock fairseq and ours from the same weights, and compare their losses.

    The weights are stock's initial ones; ``peak`` is the peak learning rate. Raises AdminError if
    every update of a model was skipped.
    """
    schedule = ["--lr", str(peak), "--lr-scheduler", "inverse_sqrt"]
    schedule += ["--warmup-updates", str(max(1, len(batches) // 2)), "--warmup-init-lr", "1e-7"]
    weights = initial_weights(stock.run, task)
    found: list[Loss] = []
    for side in (stock, *ours):
        learning = side.with_options(*schedule)
        with blaming(side.name):
            curve = losses(learning.run, task, batches, weights)
            if not curve:
                raise AdminError("every update was skipped")
        end = mean(curve[-AVERAGED:])
        logger.info(f"{side.name}: loss {end:.4f} after {len(batches)} updates")
        first = found[0].loss if found else end
        found.append(Loss(side.name, learning.command, end, end / first - 1, curve))
    return LossComparison(len(batches), min(AVERAGED, len(batches)), found)


def _rows(result: Result) -> list[Row]:
    """Return the rows of the CSV file: one per configuration, block, and of stock and ours each."""
    return [
        {
            **{"configuration": one.name, "side": name, "block": block},
            "words_per_second": speed,
        }
        for one in result.configurations
        for name in BOTH
        for block, speed in enumerate(getattr(one, name).words_per_second.by_block, 1)
    ]


def _draw(result: Result) -> dict[str, Picture]:
    """Describe the picture: bars of the speed ratio ours/stock and of words per second."""
    found = result.configurations
    names = [one.name for one in found]
    speed = [series(side, [getattr(one, side).words_per_second for one in found]) for side in BOTH]
    ratio = series("ours/stock", [one.ratio for one in found])
    pictures = [
        Bars("Training speed, ours/stock", "ratio of neighbouring blocks", names, [ratio], 1),
        Bars("Training speed", "words per second", names, speed),
    ]
    return {"training": Picture("Training speed of ours beside stock fairseq", pictures)}


def _read(result: Result) -> list[str]:
    """Return the findings as lines of text: one per configuration, then the losses."""
    lines = [
        f"Training speed, words/s: median of {result.options.blocks} blocks of "
        f"{result.options.updates} updates in alternating order; ratio ours/stock of neighbouring "
        "blocks (lowest to highest)"
    ]
    for one in result.configurations:
        ratio, skipped = one.ratio, one.ours.skipped_updates
        lines.append(
            f"{one.name}: stock {one.stock.words_per_second.median:.1f}, "
            f"ours {one.ours.words_per_second.median:.1f}, ratio {ratio.median:.3f} "
            f"({ratio.lowest:.3f} to {ratio.highest:.3f})"
            + (f", {skipped} updates skipped" if skipped else "")
            + _graphs(one.compiled_graphs)
        )
    if result.losses:
        lines.append(
            f"Loss, bits per token, mean of the last {result.losses.averaged} of "
            f"{result.losses.updates} updates:"
        )
        lines += [
            f"{one.name}: {one.loss:.4f} ({one.relative_difference:+.2%})"
            for one in result.losses.runs
        ]
    return lines


def _graphs(counts: dict[str, int]) -> str:
    """Return the counts of compiled graphs as text; empty if there are none."""
    if not any(counts.values()):
        return ""
    return f", {counts['warm_up']} graphs compiled in the warm-up, {counts['blocks']} in the blocks"


STUDY = Study(
    help="measure words per second of training, from the reference kernels to all fast paths, "
    "compared with stock fairseq; with --loss-updates, also the losses of both on the same batches",
    options=Options,
    measure=_measure,
    rows=_rows,
    draw=_draw,
    read=_read,
    pictures=["training"],
)
