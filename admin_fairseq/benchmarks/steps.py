"""Measure where the time of a training step goes, by families of operators.

Stock and ours are in memory together and measured in alternating order. torch's profiler itself
takes time, especially with many small operators, so the step is also timed without it.
"""

# no postponed annotations: fairseq's parser generator reads types
from collections import defaultdict
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple, Sequence

from fairseq import tasks
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics
from fairseq.trainer import Trainer
from torch.profiler import ProfilerActivity, profile

from admin_fairseq.benchmarks import options as common
from admin_fairseq.benchmarks import sides
from admin_fairseq.benchmarks.families import OUTSIDE, Operator, operators
from admin_fairseq.benchmarks.options import Workload
from admin_fairseq.benchmarks.sides import BOTH, Side
from admin_fairseq.benchmarks.summaries import Spread, spread
from admin_fairseq.benchmarks.trainers import alternate, timed_block, warmed_up
from admin_fairseq.fairseq_runs import Batch, first_batches
from admin_fairseq.studies.pictures import Bars, Picture, Series
from admin_fairseq.studies.study import Row, Study

LONGEST = 30
"""The number of operators listed in a result."""


@dataclass
class Options(FairseqDataclass):
    """The options of ``admin-fairseq benchmark steps``."""

    conditions: Workload = field(default_factory=Workload)
    our_words: Sequence[str] = common.ours()
    stock_words: Sequence[str] = common.stock()
    updates: int = common.updates(2)
    blocks: int = common.blocks(3)
    warmup_updates: int = common.warmup_updates(3)


class ProfiledBlock(NamedTuple):
    """Measurements of one block of updates, with the profiler and again without it."""

    seconds: float
    seconds_without: float
    operators: list[Operator]


@dataclass(frozen=True)
class Share:
    """Time of a family of operators: milliseconds per update, and share of the whole update."""

    milliseconds: float
    share: float


@dataclass(frozen=True)
class OperatorTime:
    """One operator's calls and milliseconds per update."""

    name: str
    family: str
    calls_per_update: float
    milliseconds: float


@dataclass(frozen=True)
class Step:
    """Where the time of an update goes in stock fairseq or in ours, in milliseconds.

    Times of the update and of ``families`` are medians over the blocks; ``longest_operators`` are
    those of the last block. Both are sorted with the longest first.
    """

    command: str
    milliseconds_per_update: Spread
    milliseconds_profiled: float
    families: dict[str, Share]
    longest_operators: list[OperatorTime]

    def milliseconds(self, family: str) -> float:
        """Return the time per update of a family; 0 if none of its operators was called."""
        return self.families[family].milliseconds if family in self.families else 0.0


@dataclass(frozen=True)
class Result:
    """The result of ``admin-fairseq benchmark steps``."""

    options: Options
    stock: Step
    ours: Step

    @property
    def families(self) -> list[str]:
        """Return the names of all families of operators in stock fairseq or ours, longest first."""
        names = {*self.stock.families, *self.ours.families}
        return sorted(names, key=lambda one: -max(s.milliseconds(one) for s in self.steps))

    @property
    def steps(self) -> list[Step]:
        """Return the measurements of stock fairseq and of ours."""
        return [self.stock, self.ours]


def _measure(options: Options) -> Result:
    """Train stock fairseq and ours in blocks, by turns, with and without torch's profiler.

    Raises AdminError if the options are wrong or there is not enough memory.
    """
    both = sides.pair(options.conditions, options.stock_words, options.our_words)
    with metrics.aggregate(new_root=True):
        run = both["stock"].run
        task = tasks.setup_task(run.task)
        warmup, updates = options.warmup_updates, options.updates
        batches = first_batches(task, run, warmup + updates * options.blocks)
        trainers = warmed_up(both, task, batches[:warmup])

        def describe(name: str, i: int, found: ProfiledBlock) -> str:
            time = 1000 * found.seconds_without / updates
            return f"block {i + 1} of {options.blocks}, {name}: {time:.1f} ms per update"

        blocks = alternate(trainers, batches[warmup:], updates, _profiled, describe)
    return Result(options, **{name: _step(both[name], blocks[name], options) for name in both})


def _profiled(trainer: Trainer, batches: list[Batch]) -> ProfiledBlock:
    """Train on the batches twice, without and with torch's profiler."""
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if trainer.cuda else [])
    without = timed_block(trainer, batches).seconds
    with profile(activities=activities) as profiler:
        seconds = timed_block(trainer, batches).seconds
    return ProfiledBlock(seconds, without, operators(profiler.events(), trainer.cuda))


def _step(side: Side, blocks: Sequence[ProfiledBlock], options: Options) -> Step:
    """Summarise the profiled blocks of stock fairseq or of ours."""
    updates = options.updates
    return Step(
        command=side.command,
        milliseconds_per_update=spread([1000 * b.seconds_without / updates for b in blocks]),
        milliseconds_profiled=median(1000 * block.seconds / updates for block in blocks),
        families=_families(blocks, updates),
        longest_operators=[
            OperatorTime(one.name, one.family, one.calls / updates, 1000 * one.seconds / updates)
            for one in blocks[-1].operators[:LONGEST]
        ],
    )


def _families(blocks: Sequence[ProfiledBlock], updates: int) -> dict[str, Share]:
    """Compute the median time per update of every family, and its share; longest first."""
    by_family: dict[str, list[float]] = defaultdict(list)
    for block in blocks:
        sums: dict[str, float] = defaultdict(float)
        for one in block.operators:
            sums[one.family] += one.seconds
        sums[OUTSIDE] = max(0.0, block.seconds - sum(sums.values()))
        for family, seconds in sums.items():
            by_family[family].append(1000 * seconds / updates)
    medians = {family: median(times) for family, times in by_family.items()}
    total = sum(medians.values())
    longest = sorted(medians.items(), key=lambda item: -item[1])
    return {family: Share(time, time / total) for family, time in longest}


def _rows(result: Result) -> list[Row]:
    """Return the rows of the CSV file: one per family and side (stock fairseq or ours)."""
    return [
        {"family": family, "side": name, "milliseconds": step.milliseconds(family)}
        for family in result.families
        for name, step in zip(BOTH, result.steps)
    ]


def _draw(result: Result) -> dict[str, Picture]:
    """Describe the picture: bars of milliseconds per update for every family."""
    series = [
        Series(side, [step.milliseconds(family) for family in result.families])
        for side, step in zip(BOTH, result.steps)
    ]
    bars = Bars("A training step", "milliseconds (profiled)", result.families, series)
    return {"steps": Picture("Where the time of a training step goes", [bars])}


def _read(result: Result) -> list[str]:
    """Return the findings as lines of text: one per model (stock, ours), then one per family."""
    lines = ["Milliseconds of a training step, by families of operators (own time, profiled)"]
    for side, step in zip(BOTH, result.steps):
        lines.append(
            f"{side}: {step.milliseconds_per_update.median:.1f} ms, "
            f"{step.milliseconds_profiled:.1f} ms with the profiler on"
        )
    for family in result.families:
        stock, ours = (step.milliseconds(family) for step in result.steps)
        lines.append(f"{family}: stock {stock:.2f}, ours {ours:.2f}")
    return lines


STUDY = Study(
    help="measure where the time of a training step goes, by families of operators of torch's "
    "profiler: matrix products, attention, loss, dropout, layer norm, copies, optimiser, ...",
    options=Options,
    measure=_measure,
    rows=_rows,
    draw=_draw,
    read=_read,
    pictures=["steps"],
)
