"""Training speed of several configurations of ours, each compared with stock, and their losses.

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
from admin_fairseq.errors import AdminError
from admin_fairseq.fairseq_runs import Batch, first_batches
from admin_fairseq.studies.options import option, repeated, words
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
"""Name → options of our side only; each adds to an earlier one."""

AVERAGED = 20
"""The number of last updates over which losses are averaged."""


def configuration(text: str) -> tuple[str, tuple[str, ...]]:
    """Parse ``NAME`` of a known configuration, or ``NAME: OPTIONS``."""
    name, colon, options = text.partition(":")
    if not colon and name in CONFIGURATIONS:
        return name, CONFIGURATIONS[name]
    if not colon or not name.strip():
        known = ", ".join(CONFIGURATIONS)
        raise ArgumentTypeError(f"{text!r} is neither 'NAME: OPTIONS' nor one of {known}")
    return name.strip(), words(options)


def _as_typed(one: tuple[str, Sequence[str]]) -> str:
    name, options = one
    return f"{name}: {shlex.join(options)}"


@dataclass
class Options(FairseqDataclass):
    conditions: Workload = field(default_factory=Workload)
    configurations: Sequence[tuple[str, Sequence[str]]] = repeated(
        tuple(CONFIGURATIONS.items()),
        "a configuration of ours: options for our side only, or just the name of a known one: "
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
    loss_updates: int = option(0, "compare losses after this many updates; 0: do not", counting(0))
    loss_of: Sequence[str] = repeated(
        (),
        "compare the loss of this configuration (may be repeated; default: of all)",
        metavar="NAME",
    )
    loss_lr: float = option(5e-4, "peak learning rate of that comparison", Bounds(0))


@dataclass(frozen=True)
class Speed:
    """One side's blocks."""

    words_per_second: Spread
    parameters: int
    skipped_updates: int


@dataclass(frozen=True)
class Compared:
    """A configuration compared with stock."""

    name: str
    command: str
    stock: Speed
    ours: Speed
    ratio: Spread
    compiled_graphs: dict[str, int]


@dataclass(frozen=True)
class Loss:
    name: str
    command: str
    loss: float
    relative_difference: float
    by_update: list[float]


@dataclass(frozen=True)
class LossComparison:
    updates: int
    averaged: int
    runs: list[Loss]


@dataclass(frozen=True)
class Result:
    options: Options
    stock_command: str
    configurations: list[Compared]
    losses: Optional[LossComparison]


def _measure(options: Options) -> Result:
    """Raises AdminError if the options are wrong or there is not enough memory."""
    named = dict(options.configurations)
    unknown = set(options.loss_of) - set(named)
    if unknown:
        raise AdminError(f"no configuration {sorted(unknown)[0]!r}; there are {', '.join(named)}")
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
    return Speed(
        words_per_second=spread([block.words_per_second for block in blocks]),
        parameters=blocks[0].parameters,
        skipped_updates=sum(block.skipped_updates for block in blocks),
    )


def _losses(
    stock: Side, ours: Sequence[Side], task: FairseqTask, batches: list[Batch], peak: float
) -> LossComparison:
    schedule = ["--lr", str(peak), "--lr-scheduler", "inverse_sqrt"]
    schedule += ["--warmup-updates", str(max(1, len(batches) // 2)), "--warmup-init-lr", "1e-7"]
    weights = initial_weights(stock.run, task)
    found: list[Loss] = []
    for side in (stock, *ours):
        learning = side.with_options(*schedule)
        curve = losses(learning.run, task, batches, weights)
        if not curve:
            raise AdminError(f"{side.name}: every update was skipped")
        end = mean(curve[-AVERAGED:])
        logger.info(f"{side.name}: loss {end:.4f} after {len(batches)} updates")
        first = found[0].loss if found else end
        found.append(Loss(side.name, learning.command, end, end / first - 1, curve))
    return LossComparison(len(batches), min(AVERAGED, len(batches)), found)


def _rows(result: Result) -> list[Row]:
    """One row per configuration, side and block."""
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
    if not any(counts.values()):
        return ""
    return f", {counts['warm_up']} graphs compiled in the warm-up, {counts['blocks']} in the blocks"


STUDY = Study(
    help="words per second of training, from the reference kernels to all fast paths, compared "
    "with stock fairseq; with --loss-updates, also the losses of both on the same batches",
    options=Options,
    measure=_measure,
    rows=_rows,
    draw=_draw,
    read=_read,
    pictures=["training"],
)
