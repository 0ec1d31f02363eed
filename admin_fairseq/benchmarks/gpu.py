"""Training on a CUDA device: speed, peak memory, share of what the device's matrix units could do.

A block builds its model afresh, makes some updates that do not count and is timed over the others,
so that one model is alive at any time and deep ones fit. Stock and ours take turns. A row whose
model does not fit says so, and the others are measured all the same.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any, Optional, Sequence

import torch
from fairseq import tasks
from fairseq.logging import metrics
from fairseq.tasks import FairseqTask

from admin_fairseq.benchmarks import bars, sides
from admin_fairseq.benchmarks.bars import Bars, Series
from admin_fairseq.benchmarks.flops import Tokens, peak_of_device, training_flops
from admin_fairseq.benchmarks.script import Result, Table, Tell
from admin_fairseq.benchmarks.sides import Conditions, Side
from admin_fairseq.benchmarks.summaries import ratios, spread
from admin_fairseq.benchmarks.trainers import Block, fresh_block, new_trainer, train
from admin_fairseq.benchmarks.turns import take_turns
from admin_fairseq.errors import AdminError
from admin_fairseq.fairseq_runs import Batch, OutOfMemory, first_batches

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZES = {
    "iwslt": Conditions("admin_transformer_iwslt_de_en", 6, 6, vocabulary=10000, max_tokens=4096),
    "wmt-base": Conditions("admin_transformer_wmt_en_de", 6, 6, vocabulary=32768, max_tokens=8192),
    "60l-12l": Conditions("admin_transformer_wmt_en_de", 60, 12, vocabulary=32768, max_tokens=4096),
    "100l-100l": Conditions(
        "admin_transformer_wmt_en_de", 100, 100, vocabulary=32768, max_tokens=4096
    ),
}
"""Row → model and batch; the last two are the papers' depths at the base width."""

PRECISIONS = {
    "fp16": (("--fp16",), ("--fp16",)),
    "bf16": (("--bf16",), ("--autocast", "bfloat16")),
    "fp32": ((), ()),
}
"""Precision → options of stock and of ours. fairseq's --bf16 keeps weights and activations in
bfloat16 and a float32 copy for the optimiser; autocast keeps float32 weights."""

LEANEST = ("--criterion", "label_smoothed_cross_entropy_chunked", "--optimizer", "adam_fused")


@dataclass(frozen=True)
class Options:
    sizes: Sequence[str] = tuple(SIZES)
    precisions: Sequence[str] = ("fp16", "bf16")
    our_words: Sequence[str] = LEANEST
    stock_words: Sequence[str] = ()
    data: Optional[str] = None
    vocabulary: Optional[int] = None  # in place of the size's own, as the next two
    layers: Optional[int] = None
    max_tokens: Optional[int] = None
    words: Sequence[str] = ()
    updates: int = 10
    blocks: int = 3
    warmup_updates: int = 5
    peak_tflops: Optional[float] = None
    seed: int = 1
    cpu: bool = False  # to try the script where there is no CUDA

    def conditions(self, size: str) -> Conditions:
        changed: dict[str, Any] = {"data": self.data, "seed": self.seed, "cpu": self.cpu}
        if self.vocabulary:
            changed["vocabulary"] = self.vocabulary
        if self.max_tokens:
            changed["max_tokens"] = self.max_tokens
        if self.layers:
            changed.update(encoder_layers=self.layers, decoder_layers=self.layers)
        return replace(SIZES[size], **changed, words=tuple(self.words))


def measure(options: Options, tell: Tell) -> Result:
    """Raises AdminError where there is no CUDA device, or the options are wrong."""
    if not torch.cuda.is_available() and not options.cpu:
        raise AdminError("torch sees no CUDA device here; --cpu tries the script in float32")
    if options.cpu and set(options.precisions) & {"fp16", "bf16"}:
        raise AdminError("--cpu: fairseq trains in float32 alone there; say --precision fp32")
    pairs = {
        (size, precision): _pair(size, precision, options)
        for size in options.sizes
        for precision in options.precisions
    }
    for pair in pairs.values():
        for side in pair.values():
            side.check()  # before anything runs
    peak = options.peak_tflops * 1e12 if options.peak_tflops else None
    if peak is None and not options.cpu:
        peak = peak_of_device(torch.cuda.get_device_name())
    rows = []
    for (size, precision), pair in pairs.items():
        # the table's peaks are of half precision
        limit = peak if precision != "fp32" or options.peak_tflops else None
        row = _row(pair, options, partial(_tell_row, tell, size, precision), limit)
        rows.append({"size": size, "precision": precision, **row})
    return {"options": asdict(options), "peak_flops": peak, "rows": rows}


def _tell_row(tell: Tell, size: str, precision: str, line: str) -> None:
    tell(f"{size}, {precision}: {line}")


def _pair(size: str, precision: str, options: Options) -> dict[str, Side]:
    conditions = options.conditions(size)
    conditions.check()
    theirs, mine = PRECISIONS[precision]
    return {
        "stock": sides.stock(conditions, words=[*theirs, *options.stock_words]),
        "ours": sides.ours(conditions, words=[*mine, *options.our_words]),
    }


def _row(pair: dict[str, Side], options: Options, tell: Tell, peak: Optional[float]) -> Result:
    """Both sides; one that fails keeps its error and leaves the turns to the other."""
    errors: dict[str, str] = {}
    with metrics.aggregate(new_root=True):
        runs = {name: side.run for name, side in pair.items()}
        task = tasks.setup_task(runs["stock"].task)
        count = options.warmup_updates + options.updates
        batches = first_batches(task, runs["stock"], count * options.blocks)

        def block_of(name: str, i: int) -> Optional[Block]:
            if name in errors:
                return None
            mine = batches[i * count : (i + 1) * count]
            try:
                if i == 0:  # loads what only a first update loads
                    train(new_trainer(runs[name], task), batches[:1])
                block = fresh_block(runs[name], task, mine, options.warmup_updates)
            except (OutOfMemory, FloatingPointError) as error:
                kind = "out of memory" if isinstance(error, OutOfMemory) else str(error)
                errors[name] = kind.splitlines()[0]
                tell(f"{name}: {errors[name]}")
                return None
            tell(f"block {i + 1} of {options.blocks}, {name}: {block.words_per_second:.0f} words/s")
            return block

        turns = {name: partial(block_of, name) for name in pair}
        blocks = take_turns(turns, options.blocks)
    flops = [
        _block_flops(runs["ours"].model, task, batches[i * count : (i + 1) * count], options)
        for i in range(options.blocks)
    ]
    found = {
        name: _side(side, blocks[name], errors.get(name), flops, peak)
        for name, side in pair.items()
    }
    return {**found, "ratio": _ratio(found)}


def _block_flops(model: Any, task: FairseqTask, batches: list[Batch], options: Options) -> int:
    """Operations of a block's timed updates."""
    return sum(
        training_flops(
            model,
            len(task.target_dictionary),
            Tokens.of(batch, task.source_dictionary, task.target_dictionary),
        )
        for batch in batches[options.warmup_updates :]
    )


def _side(
    side: Side,
    blocks: Sequence[Optional[Block]],
    error: Optional[str],
    flops: Sequence[int],
    peak: Optional[float],
) -> Result:
    if error is not None:
        return {"command": side.command, "error": error}
    speeds = [block.words_per_second for block in blocks]
    rates = [count / block.seconds for count, block in zip(flops, blocks)]
    memories = [block.peak_memory for block in blocks if block.peak_memory is not None]
    return {
        "command": side.command,
        "error": None,
        "words_per_second": {**spread(speeds), "by_block": speeds},
        "peak_memory": median(memories) if memories else None,
        "flops_per_second": median(rates),
        "share_of_peak": median(rates) / peak if peak else None,
        "parameters": blocks[0].parameters,
        "skipped_updates": sum(block.skipped_updates for block in blocks),
    }


def _ratio(found: dict[str, Result]) -> Optional[Result]:
    """Ours/stock; None where one of them was not measured."""
    stock, ours = found["stock"], found["ours"]
    if stock["error"] or ours["error"]:
        return None
    by_block = ratios(ours["words_per_second"]["by_block"], stock["words_per_second"]["by_block"])
    known = stock["peak_memory"] and ours["peak_memory"]
    return {
        "speed": {**spread(by_block), "by_block": by_block},
        "memory": ours["peak_memory"] / stock["peak_memory"] if known else None,
    }


def draw(result: Result) -> Figure:
    rows = result["rows"]
    groups = [f"{row['size']}, {row['precision']}" for row in rows]
    both, speed = ("stock", "ours"), ("words_per_second", "median")

    def values(*keys: str, scale: float = 1.0) -> list[Series]:
        return [Series(side, [_scaled(row[side], keys, scale) for row in rows]) for side in both]

    ratio = [row["ratio"] and row["ratio"]["speed"] for row in rows]
    ends = ([one and one[end] for one in ratio] for end in ("median", "lowest", "highest"))
    return bars.draw(
        [
            Bars("Training speed", "ours/stock", groups, [Series("ours/stock", *ends)], 1),
            Bars("Training speed", "words per second", groups, values(*speed)),
            Bars("Peak memory", "GiB", groups, values("peak_memory", scale=2**-30)),
            Bars("Matrix units", "% of their peak", groups, values("share_of_peak", scale=100)),
        ]
    )


def _scaled(side: Result, keys: Sequence[str], scale: float) -> Optional[float]:
    value: Any = side
    for key in keys:
        value = value.get(key) if value else None
    return None if value is None else value * scale


def report(result: Result) -> list[str]:
    asked = result["options"]
    lines = [
        f"Training on {result['machine']['device']}: median of {asked['blocks']} blocks of "
        f"{asked['updates']} updates in turns (lowest to highest), one model alive at a time"
    ]
    for row in result["rows"]:
        ratio = "n/a"
        if row["ratio"]:
            speed, memory = row["ratio"]["speed"], row["ratio"]["memory"]
            ratio = f"{speed['median']:.3f} ({speed['lowest']:.3f} to {speed['highest']:.3f})"
            ratio += "" if memory is None else f", memory {memory:.3f}"
        lines.append(
            f"{row['size']}, {row['precision']}: stock {_told(row['stock'])}; "
            f"ours {_told(row['ours'])}; ratio {ratio}"
        )
    return lines


def _told(side: Result) -> str:
    if side["error"]:
        return side["error"]
    told = f"{side['words_per_second']['median']:.0f} words/s"
    if side["peak_memory"] is not None:
        told += f", {side['peak_memory'] / 2**30:.2f} GiB"
    if side["share_of_peak"] is not None:
        told += f", {side['share_of_peak']:.1%} of the peak"
    skipped = side["skipped_updates"]
    return told + (f", {skipped} updates skipped" if skipped else "")


TABLE = Table("gpu", measure, draw, report)
