"""Where the time of a training step goes, in stock and ours, by families of operators.

Both are in memory together and measured in alternating order. The profiler itself takes time,
especially with many small operators, so the step is also measured without it.
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
    conditions: Workload = field(default_factory=Workload)
    our_words: Sequence[str] = common.ours()
    stock_words: Sequence[str] = common.stock()
    updates: int = common.updates(2)
    blocks: int = common.blocks(3)
    warmup_updates: int = common.warmup_updates(3)


class ProfiledBlock(NamedTuple):
    """One block of updates, with the profiler and again without it."""

    seconds: float
    seconds_without: float
    operators: list[Operator]


@dataclass(frozen=True)
class Share:
    milliseconds: float
    share: float


@dataclass(frozen=True)
class OperatorTime:
    name: str
    family: str
    calls_per_update: float
    milliseconds: float


@dataclass(frozen=True)
class Step:
    """Milliseconds per update of one side: medians over the blocks, longest first."""

    command: str
    milliseconds_per_update: Spread
    milliseconds_profiled: float
    families: dict[str, Share]
    longest_operators: list[OperatorTime]

    def milliseconds(self, family: str) -> float:
        return self.families[family].milliseconds if family in self.families else 0.0


@dataclass(frozen=True)
class Result:
    options: Options
    stock: Step
    ours: Step

    @property
    def families(self) -> list[str]:
        """The families of both sides, longest first."""
        names = {*self.stock.families, *self.ours.families}
        return sorted(names, key=lambda one: -max(s.milliseconds(one) for s in self.steps))

    @property
    def steps(self) -> list[Step]:
        return [self.stock, self.ours]


def _measure(options: Options) -> Result:
    """Raises AdminError if the options are wrong or there is not enough memory."""
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
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if trainer.cuda else [])
    without = timed_block(trainer, batches).seconds
    with profile(activities=activities) as profiler:
        seconds = timed_block(trainer, batches).seconds
    return ProfiledBlock(seconds, without, operators(profiler.events(), trainer.cuda))


def _step(side: Side, blocks: Sequence[ProfiledBlock], options: Options) -> Step:
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
    """One row per family and side."""
    return [
        {"family": family, "side": name, "milliseconds": step.milliseconds(family)}
        for family in result.families
        for name, step in zip(BOTH, result.steps)
    ]


def _draw(result: Result) -> dict[str, Picture]:
    series = [
        Series(side, [step.milliseconds(family) for family in result.families])
        for side, step in zip(BOTH, result.steps)
    ]
    bars = Bars("A training step", "milliseconds (profiled)", result.families, series)
    return {"steps": Picture("Where the time of a training step goes", [bars])}


def _read(result: Result) -> list[str]:
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
    help="where the time of a training step goes, by families of operators of torch's "
    "profiler: matrix products, attention, loss, dropout, layer norm, copies, optimiser, ...",
    options=Options,
    measure=_measure,
    rows=_rows,
    draw=_draw,
    read=_read,
    pictures=["steps"],
)
