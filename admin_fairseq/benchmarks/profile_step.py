"""Where the milliseconds of a training step go: stock and ours, by families of operators.

Both live side by side and take turns. The profiler itself takes time, most of it in steps with many
small operators: the step's time without it is measured too and stands beside.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, field
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, NamedTuple, Sequence

from fairseq import tasks
from fairseq.logging import metrics
from fairseq.trainer import Trainer
from torch.profiler import ProfilerActivity, profile

from admin_fairseq.benchmarks import bars, sides
from admin_fairseq.benchmarks.bars import Bars, Series
from admin_fairseq.benchmarks.families import OUTSIDE, Operator, operators
from admin_fairseq.benchmarks.script import Result, Table, Tell
from admin_fairseq.benchmarks.sides import Conditions
from admin_fairseq.benchmarks.summaries import spread
from admin_fairseq.benchmarks.trainers import new_trainer, timed_block, train
from admin_fairseq.benchmarks.turns import take_turns
from admin_fairseq.fairseq_runs import Batch, first_batches

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONGEST = 30
"""Operators that a result lists."""


@dataclass(frozen=True)
class Options:
    conditions: Conditions = field(default_factory=Conditions)
    our_words: Sequence[str] = ()
    stock_words: Sequence[str] = ()
    updates: int = 2
    blocks: int = 3
    warmup_updates: int = 3


class Profile(NamedTuple):
    """One block of updates, seen by the profiler, and again without it."""

    seconds: float
    seconds_without: float
    operators: list[Operator]


def measure(options: Options, tell: Tell) -> Result:
    """Raises AdminError where the options are wrong or the memory does not suffice."""
    options.conditions.check()
    both = {
        "stock": sides.stock(options.conditions, words=options.stock_words),
        "ours": sides.ours(options.conditions, words=options.our_words),
    }
    with metrics.aggregate(new_root=True):
        runs = {name: side.run for name, side in both.items()}
        task = tasks.setup_task(runs["stock"].task)
        count = options.warmup_updates + options.updates * options.blocks
        batches = first_batches(task, runs["stock"], count)
        warmup, timed = batches[: options.warmup_updates], batches[options.warmup_updates :]
        trainers = {name: new_trainer(run, task) for name, run in runs.items()}
        for trainer in trainers.values():
            train(trainer, warmup)

        def block_of(name: str, i: int) -> Profile:
            mine = timed[i * options.updates : (i + 1) * options.updates]
            seen = _profiled(trainers[name], mine)
            tell(
                f"block {i + 1} of {options.blocks}, {name}: "
                f"{1000 * seen.seconds_without / options.updates:.1f} ms an update"
            )
            return seen

        blocks = take_turns({name: partial(block_of, name) for name in both}, options.blocks)
    return {
        "options": asdict(options),
        **{
            name: {"command": side.command, **_side(blocks[name], options.updates)}
            for name, side in both.items()
        },
    }


def _profiled(trainer: Trainer, batches: list[Batch]) -> Profile:
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if trainer.cuda else [])
    without = timed_block(trainer, batches).seconds
    with profile(activities=activities) as profiler:
        seconds = timed_block(trainer, batches).seconds
    return Profile(seconds, without, operators(profiler.events(), trainer.cuda))


def _side(blocks: Sequence[Profile], updates: int) -> Result:
    """Milliseconds of an update, medians over the blocks."""
    by_family: dict[str, list[float]] = defaultdict(list)
    for block in blocks:
        sums: dict[str, float] = defaultdict(float)
        for one in block.operators:
            sums[one.family] += one.seconds
        sums[OUTSIDE] = max(0.0, block.seconds - sum(sums.values()))
        for family, seconds in sums.items():
            by_family[family].append(1000 * seconds / updates)
    families = {family: median(times) for family, times in by_family.items()}
    total = sum(families.values())
    without = [1000 * block.seconds_without / updates for block in blocks]
    return {
        "milliseconds_per_update": {**spread(without), "by_block": without},
        "milliseconds_profiled": median(1000 * block.seconds / updates for block in blocks),
        "families": {
            family: {"milliseconds": time, "share": time / total}
            for family, time in sorted(families.items(), key=lambda item: -item[1])
        },
        "longest_operators": [
            {
                "name": one.name,
                "family": one.family,
                "calls_per_update": one.calls / updates,
                "milliseconds": 1000 * one.seconds / updates,
            }
            for one in blocks[-1].operators[:LONGEST]
        ],
    }


def draw(result: Result) -> Figure:
    families = _families(result)
    series = [Series(side, [_time(result[side], one) for one in families]) for side in BOTH]
    return bars.draw([Bars("A training step", "milliseconds (profiled)", families, series)])


BOTH = ("stock", "ours")


def _families(result: Result) -> list[str]:
    """Those of both sides, the longest first."""
    names = {name for side in BOTH for name in result[side]["families"]}
    return sorted(names, key=lambda one: -max(_time(result[side], one) for side in BOTH))


def _time(side: Result, family: str) -> float:
    return side["families"].get(family, {"milliseconds": 0.0})["milliseconds"]


def report(result: Result) -> list[str]:
    lines = ["Milliseconds of a training step, by families of operators (own time, profiled)"]
    for side in BOTH:
        without = result[side]["milliseconds_per_update"]["median"]
        profiled = result[side]["milliseconds_profiled"]
        lines.append(f"{side}: {without:.1f} ms, {profiled:.1f} ms with the profiler on")
    for family in _families(result):
        stock, ours = (_time(result[side], family) for side in BOTH)
        lines.append(f"{family}: stock {stock:.2f}, ours {ours:.2f}")
    return lines


TABLE = Table("profile_step", measure, draw, report)
