"""Training speed of several configurations of ours, each in turns with stock; losses beside it.

For every configuration stock and ours are built once and live side by side; after some updates
that do not count, both train on the same batches in blocks, one after the other. The ratio is
that of a block of ours and the block of stock next to it. Words are target words with end of
sentence, as in fairseq's ``wps``.

Losses: stock and ours start from stock's weights and train on the same batches with a learning
rate that warms up and falls. Their dropout differs, as their kernels draw it differently.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import partial
from statistics import mean
from typing import TYPE_CHECKING, Any, Optional, Sequence

from fairseq import tasks
from fairseq.logging import metrics
from fairseq.tasks import FairseqTask

from admin_fairseq.benchmarks import bars, sides
from admin_fairseq.benchmarks.bars import Bars, Series
from admin_fairseq.benchmarks.script import Result, Table, Tell
from admin_fairseq.benchmarks.sides import Conditions, Side
from admin_fairseq.benchmarks.summaries import ratios, spread
from admin_fairseq.benchmarks.trainers import (
    Block,
    compiled_graphs,
    initial_weights,
    losses,
    new_trainer,
    timed_block,
    train,
)
from admin_fairseq.benchmarks.turns import take_turns
from admin_fairseq.errors import AdminError
from admin_fairseq.fairseq_runs import Batch, first_batches

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
"""Name → options that our side has alone; each is a step from an earlier one."""

AVERAGED = 20
"""Updates at the end whose loss counts."""


@dataclass(frozen=True)
class Options:
    conditions: Conditions = field(default_factory=Conditions)
    configurations: dict[str, Sequence[str]] = field(default_factory=lambda: dict(CONFIGURATIONS))
    stock_words: Sequence[str] = ()
    updates: int = 4
    blocks: int = 5
    warmup_updates: int = 3
    loss_updates: int = 0
    loss_of: Optional[Sequence[str]] = None  # names of configurations; None: all
    loss_lr: float = 5e-4


def measure(options: Options, tell: Tell) -> Result:
    """Raises AdminError where the options are wrong or the memory does not suffice."""
    options.conditions.check()
    unknown = set(options.loss_of or ()) - set(options.configurations)
    if unknown:
        raise AdminError(
            f"no configuration {sorted(unknown)[0]!r}; there are "
            f"{', '.join(options.configurations)}"
        )
    stock = sides.stock(options.conditions, words=options.stock_words)
    ours = [
        sides.ours(options.conditions, name, words)
        for name, words in options.configurations.items()
    ]
    for side in (stock, *ours):
        side.check()  # before anything runs
    with metrics.aggregate(new_root=True):
        run = stock.run
        task = tasks.setup_task(run.task)
        count = options.warmup_updates + options.updates * options.blocks
        batches = first_batches(task, run, max(count, options.loss_updates))
        speeds = [_speeds(stock, side, task, batches[:count], options, tell) for side in ours]
        found = None
        if options.loss_updates:
            some = [s for s in ours if options.loss_of is None or s.name in options.loss_of]
            found = _losses(stock, some, task, batches[: options.loss_updates], options, tell)
    return {
        "options": asdict(options),
        "stock_command": stock.command,
        "configurations": speeds,
        "losses": found,
    }


def _speeds(
    stock: Side,
    ours: Side,
    task: FairseqTask,
    batches: list[Batch],
    options: Options,
    tell: Tell,
) -> Result:
    """One configuration beside stock."""
    warmup, timed = batches[: options.warmup_updates], batches[options.warmup_updates :]
    trainers, graphs = {}, [compiled_graphs()]
    for name, side in (("stock", stock), ("ours", ours)):
        trainers[name] = new_trainer(side.run, task)
        train(trainers[name], warmup)
    graphs.append(compiled_graphs())

    def block_of(name: str, i: int) -> Block:
        mine = timed[i * options.updates : (i + 1) * options.updates]
        block = timed_block(trainers[name], mine)
        tell(
            f"{ours.name}: block {i + 1} of {options.blocks}, {name}: "
            f"{block.words_per_second:.1f} words/s"
        )
        return block

    turns = {name: partial(block_of, name) for name in trainers}
    blocks = take_turns(turns, options.blocks)
    graphs.append(compiled_graphs())
    speeds = {name: [block.words_per_second for block in blocks[name]] for name in blocks}
    by_block = ratios(speeds["ours"], speeds["stock"])
    return {
        "name": ours.name,
        "command": ours.command,
        **{name: _side(blocks[name]) for name in blocks},
        "ratio": {**spread(by_block), "by_block": by_block},
        "compiled_graphs": {"warm_up": graphs[1] - graphs[0], "blocks": graphs[2] - graphs[1]},
    }


def _side(blocks: Sequence[Block]) -> Result:
    speeds = [block.words_per_second for block in blocks]
    return {
        "words_per_second": {**spread(speeds), "by_block": speeds},
        "parameters": blocks[0].parameters,
        "skipped_updates": sum(block.skipped_updates for block in blocks),
    }


def _losses(
    stock: Side,
    ours: Sequence[Side],
    task: FairseqTask,
    batches: list[Batch],
    options: Options,
    tell: Tell,
) -> Result:
    schedule = ["--lr", str(options.loss_lr), "--lr-scheduler", "inverse_sqrt"]
    schedule += ["--warmup-updates", str(max(1, len(batches) // 2)), "--warmup-init-lr", "1e-7"]
    weights = initial_weights(stock.run, task)
    found = []
    for side in (stock, *ours):
        learning = side.but(*schedule)
        curve = losses(learning.run, task, batches, weights)
        if not curve:
            raise AdminError(f"{side.name}: every update was skipped")
        end = mean(curve[-AVERAGED:])
        tell(f"{side.name}: loss {end:.4f} after {len(batches)} updates")
        first = found[0]["loss"] if found else end
        found.append(
            {
                "name": side.name,
                "command": learning.command,
                "loss": end,
                "relative_difference": end / first - 1,
                "by_update": curve,
            }
        )
    return {"updates": len(batches), "averaged": min(AVERAGED, len(batches)), "runs": found}


def draw(result: Result) -> Figure:
    found = result["configurations"]
    names = [one["name"] for one in found]

    def series(label: str, spreads: Sequence[dict[str, Any]]) -> Series:
        ends = ("median", "lowest", "highest")
        return Series(label, *([one[end] for one in spreads] for end in ends))

    speed = [
        series(side, [one[side]["words_per_second"] for one in found]) for side in ("stock", "ours")
    ]
    ratio = series("ours/stock", [one["ratio"] for one in found])
    return bars.draw(
        [
            Bars("Training speed, ours/stock", "ratio of neighbouring blocks", names, [ratio], 1),
            Bars("Training speed", "words per second", names, speed),
        ]
    )


def report(result: Result) -> list[str]:
    asked = result["options"]
    lines = [
        f"Training speed, words/s: median of {asked['blocks']} blocks of {asked['updates']} "
        "updates in turns; ratio ours/stock of neighbouring blocks (lowest to highest)"
    ]
    for one in result["configurations"]:
        ratio, skipped = one["ratio"], one["ours"]["skipped_updates"]
        lines.append(
            f"{one['name']}: stock {one['stock']['words_per_second']['median']:.1f}, "
            f"ours {one['ours']['words_per_second']['median']:.1f}, ratio {ratio['median']:.3f} "
            f"({ratio['lowest']:.3f} to {ratio['highest']:.3f})"
            + (f", {skipped} updates skipped" if skipped else "")
            + _graphs(one["compiled_graphs"])
        )
    if result["losses"]:
        found = result["losses"]
        lines.append(
            f"Loss, bits per token, mean of the last {found['averaged']} of {found['updates']} "
            "updates:"
        )
        lines += [
            f"{one['name']}: {one['loss']:.4f} ({one['relative_difference']:+.2%})"
            for one in found["runs"]
        ]
    return lines


def _graphs(counts: dict[str, int]) -> str:
    if not any(counts.values()):
        return ""
    return f", {counts['warm_up']} graphs compiled in the warm-up, {counts['blocks']} in the blocks"


TABLE = Table("training", measure, draw, report)
