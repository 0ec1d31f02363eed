"""Measure training speed, peak memory and the share of the device's peak rate in use.

The share is that of the matrix units' peak (tensor cores). Each timed block builds a new model,
makes some untimed updates and times the others, so that only one model exists at a time and deep
ones fit. Stock and ours are measured in alternating order. If a model does not fit, its error is
reported, and the others are still measured.
"""

# no postponed annotations: fairseq's parser generator reads types
import logging
import shlex
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any, Optional, Sequence, Union

import torch
from fairseq import tasks
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics
from fairseq.tasks import FairseqTask

from admin_fairseq.benchmarks import options as common
from admin_fairseq.benchmarks import sides
from admin_fairseq.benchmarks.flops import Tokens, peak_of_device, training_flops
from admin_fairseq.benchmarks.options import LAYERS, SEED, Workload
from admin_fairseq.benchmarks.sides import BOTH, Side
from admin_fairseq.benchmarks.summaries import Spread, ratios, series, spread
from admin_fairseq.benchmarks.trainers import TrainingBlock, fresh_block, new_trainer, train
from admin_fairseq.benchmarks.turns import take_turns
from admin_fairseq.bounds import Bounds
from admin_fairseq.errors import AdminError
from admin_fairseq.fairseq_runs import Batch, OutOfMemory, first_batches
from admin_fairseq.studies.options import option, repeated, split_words, trailing_words
from admin_fairseq.studies.pictures import Bars, Picture, Series
from admin_fairseq.studies.study import Row, Study

logger = logging.getLogger(__name__)

GIB = 2**30


def _workload(arch: str, encoder: int, decoder: int, vocabulary: int, max_tokens: int) -> Workload:
    """Return the workload (model and batch) of our architecture ``admin_transformer_{arch}``."""
    return Workload(
        arch=f"admin_transformer_{arch}",
        encoder_layers=encoder,
        decoder_layers=decoder,
        vocabulary=vocabulary,
        max_tokens=max_tokens,
    )


WORKLOADS = {
    "iwslt": _workload("iwslt_de_en", 6, 6, vocabulary=10000, max_tokens=4096),
    "wmt-base": _workload("wmt_en_de", 6, 6, vocabulary=32768, max_tokens=8192),
    "60l-12l": _workload("wmt_en_de", 60, 12, vocabulary=32768, max_tokens=4096),
    "100l-100l": _workload("wmt_en_de", 100, 100, vocabulary=32768, max_tokens=4096),
}
"""--size → its model and batch; the last two have the papers' depths at the base width."""

PRECISIONS = {
    "fp16": ("--fp16",),
    "bf16": ("--bf16",),
    "fp32": (),
}
"""Precision → options of both sides."""

LEANEST = ("--criterion", "label_smoothed_cross_entropy_chunked", "--optimizer", "adam_fused")
"""The options with which ours needs the least memory."""

FASTEST = (*LEANEST, "--cuda-graphs")
"""The options that ours has by default in half precision."""


def _instead(help: str, bounds: Optional[Bounds] = None) -> Any:
    """Declare an option whose value, if given, replaces that of every model (``--size``)."""
    return option(None, f"{help} (default: that of each --size)", bounds)


@dataclass
class Options(FairseqDataclass):
    """The options of ``admin-fairseq benchmark gpu``."""

    sizes: Sequence[str] = repeated(
        (),
        f"a model size: {', '.join(WORKLOADS)} (may be repeated; default: all, or --arch alone)",
        names=("--size",),
        choices=list(WORKLOADS),
        metavar="SIZE",
    )
    precisions: Sequence[str] = repeated(
        (),
        f"a precision: {', '.join(PRECISIONS)} (may be repeated; default: fp16 and bf16; fp32 "
        "with --cpu)",
        names=("--precision",),
        choices=list(PRECISIONS),
        metavar="PRECISION",
    )
    our_words: Optional[Sequence[str]] = option(
        None,
        f"options for our side only (default: {shlex.join(FASTEST)}; no graphs in fp32)",
        names=("--ours",),
        type=split_words,
        metavar="OPTIONS",
    )
    stock_words: Sequence[str] = common.stock()
    arch: Optional[str] = option(None, "measure this architecture of ours")
    init_type: Optional[str] = common.init_type()
    encoder_layers: Optional[int] = _instead("encoder depth", LAYERS)
    decoder_layers: Optional[int] = _instead("decoder depth", LAYERS)
    layers: Optional[int] = _instead("depth of both stacks", LAYERS)
    data: Optional[str] = common.data()
    vocabulary: Optional[int] = _instead("dictionary entries in made-up batches", common.VOCABULARY)
    max_tokens: Optional[int] = _instead("tokens in a batch", common.MAX_TOKENS)
    optimizer: Optional[str] = _instead("optimiser of stock and ours")
    words: Sequence[str] = trailing_words("options of fairseq-train for stock and ours")
    updates: int = common.updates(10)
    blocks: int = common.blocks(3)
    warmup_updates: int = common.warmup_updates(5, "at the beginning of a block")
    peak_tflops: Optional[float] = option(
        None,
        "peak of the device in 10^12 dense matrix operations per second (default: built-in, for "
        "known GPUs)",
        Bounds(1e-12),
    )
    seed: int = option(1, "random seed", SEED)
    cpu: bool = option(False, "measure on a CPU, with --precision fp32")

    @property
    def on_gpu(self) -> bool:
        """Return whether models are measured on a GPU."""
        return torch.cuda.is_available() and not self.cpu

    @property
    def rows(self) -> dict[str, Workload]:
        """Return name → workload (model and batch) for ``--arch`` and every ``--size``.

        Options such as ``--max-tokens`` override the values of each workload.
        """
        own = {self.arch: Workload(arch=self.arch)} if self.arch else {}
        sizes = {name: WORKLOADS[name] for name in self.sizes or (() if own else WORKLOADS)}
        changed = {
            "encoder_layers": self.encoder_layers or self.layers,
            "decoder_layers": self.decoder_layers or self.layers,
            **{name: getattr(self, name) for name in ("init_type", "data", "vocabulary")},
            **{name: getattr(self, name) for name in ("max_tokens", "optimizer", "seed", "cpu")},
            "words": self.words,
        }
        changed = {name: value for name, value in changed.items() if value is not None}
        return {name: replace(row, **changed) for name, row in {**own, **sizes}.items()}


@dataclass(frozen=True)
class Failed:
    """The error of a side (stock fairseq or ours) that could not be measured, and its command."""

    command: str
    error: str


@dataclass(frozen=True)
class Speed:
    """Training speed and memory of stock fairseq or of ours, summarised over blocks of updates.

    ``peak_memory`` is in bytes; ``share_of_peak`` is None if the device's peak rate is unknown.
    """

    command: str
    error: None
    words_per_second: Spread
    peak_memory: Optional[float]
    flops_per_second: float
    share_of_peak: Optional[float]
    parameters: int
    skipped_updates: int


@dataclass(frozen=True)
class Ratio:
    """Speed and peak memory of ours, each divided by that of stock fairseq."""

    speed: Spread
    memory: Optional[float]


@dataclass(frozen=True)
class Pair:
    """Measurements of stock fairseq and ours on one model size in one precision.

    ``ratio`` is None if either could not be measured.
    """

    size: str
    precision: str
    stock: Union[Speed, Failed]
    ours: Union[Speed, Failed]
    ratio: Optional[Ratio]


@dataclass(frozen=True)
class Result:
    """The result of ``admin-fairseq benchmark gpu``: one row per model size and precision."""

    options: Options
    device: str
    peak_flops: Optional[float]
    rows: list[Pair]


def _measure(options: Options) -> Result:
    """Measure stock fairseq and ours for every model size and precision.

    Raises AdminError if there is no CUDA device (without ``--cpu``), or the options are wrong.
    """
    if not torch.cuda.is_available() and not options.cpu:
        raise AdminError("torch sees no CUDA device here; --cpu measures in float32 on the CPU")
    precisions = options.precisions or (("fp32",) if options.cpu else ("fp16", "bf16"))
    if options.cpu and set(precisions) & {"fp16", "bf16"}:
        raise AdminError("--cpu: fairseq trains only in float32 there; use --precision fp32")
    pairs = {
        (size, precision): _pair(workload, precision, options)
        for size, workload in options.rows.items()
        for precision in precisions
    }  # all of them first, so that errors come before anything runs
    device = torch.cuda.get_device_name() if options.on_gpu else "CPU"
    peak = options.peak_tflops * 1e12 if options.peak_tflops else peak_of_device(device)
    rows = []
    for (size, precision), pair in pairs.items():
        # the table's peaks are for half precision
        limit = peak if precision != "fp32" or options.peak_tflops else None
        found = _sides(f"{size}, {precision}", pair, options, limit)
        rows.append(Pair(size, precision, **found, ratio=_ratio(**found)))
    return Result(options, device, peak, rows)


def _pair(workload: Workload, precision: str, options: Options) -> dict[str, Side]:
    """Return the ``fairseq-train`` commands of stock fairseq and ours for a workload, by name."""
    shared, mine = PRECISIONS[precision], options.our_words
    if mine is None:
        mine = FASTEST if shared else LEANEST
    return sides.pair(workload, [*shared, *options.stock_words], [*shared, *mine])


def _sides(
    row: str, pair: dict[str, Side], options: Options, peak: Optional[float]
) -> dict[str, Union[Speed, Failed]]:
    """Train stock fairseq and ours in blocks, by turns; if one fails, keep its error and go on.

    ``row`` names the model size and precision in log messages; ``peak`` is the device's peak rate.
    """
    errors: dict[str, str] = {}
    with metrics.aggregate(new_root=True):
        runs = {name: side.run for name, side in pair.items()}
        task = tasks.setup_task(runs["stock"].task)
        count = options.warmup_updates + options.updates
        batches = first_batches(task, runs["stock"], count * options.blocks)

        def block_of(name: str, i: int) -> Optional[TrainingBlock]:
            if name in errors:
                return None
            mine = batches[i * count : (i + 1) * count]
            try:
                if i == 0:  # loads libraries and kernels
                    train(new_trainer(runs[name], task), batches[:1])
                block = fresh_block(runs[name], task, mine, options.warmup_updates)
            except (OutOfMemory, FloatingPointError) as error:
                kind = "out of memory" if isinstance(error, OutOfMemory) else str(error)
                errors[name] = kind.splitlines()[0]
                logger.info(f"{row}: {name}: {errors[name]}")
                return None
            speed = f"{block.words_per_second:.0f} words/s"
            logger.info(f"{row}: block {i + 1} of {options.blocks}, {name}: {speed}")
            return block

        turns = {name: partial(block_of, name) for name in pair}
        blocks = take_turns(turns, options.blocks)
    flops = [
        _block_flops(runs["ours"].model, task, batches[i * count : (i + 1) * count], options)
        for i in range(options.blocks)
    ]
    return {
        name: Failed(side.command, errors[name])
        if name in errors
        else _speed(side, [block for block in blocks[name] if block], flops, peak)
        for name, side in pair.items()
    }


def _block_flops(model: Any, task: FairseqTask, batches: list[Batch], options: Options) -> int:
    """Count the floating-point operations of a block's timed updates."""
    return sum(
        training_flops(
            model,
            len(task.target_dictionary),
            Tokens.of(batch, task.source_dictionary, task.target_dictionary),
        )
        for batch in batches[options.warmup_updates :]
    )


def _speed(
    side: Side, blocks: Sequence[TrainingBlock], flops: Sequence[int], peak: Optional[float]
) -> Speed:
    """Summarise the blocks of one side; ``flops`` are the operations of each block."""
    rate = median(count / block.seconds for count, block in zip(flops, blocks))
    memories = [block.peak_memory for block in blocks if block.peak_memory is not None]
    return Speed(
        command=side.command,
        error=None,
        words_per_second=spread([block.words_per_second for block in blocks]),
        peak_memory=median(memories) if memories else None,
        flops_per_second=rate,
        share_of_peak=rate / peak if peak else None,
        parameters=blocks[0].parameters,
        skipped_updates=sum(block.skipped_updates for block in blocks),
    )


def _ratio(stock: Union[Speed, Failed], ours: Union[Speed, Failed]) -> Optional[Ratio]:
    """Divide the speed and memory of ours by those of stock fairseq; None if either failed."""
    if isinstance(stock, Failed) or isinstance(ours, Failed):
        return None
    by_block = ratios(ours.words_per_second.by_block, stock.words_per_second.by_block)
    memory = None
    if stock.peak_memory and ours.peak_memory:
        memory = ours.peak_memory / stock.peak_memory
    return Ratio(spread(by_block), memory)


def _rows(result: Result) -> list[Row]:
    """Return the rows of the CSV file: one per size, precision and side (stock fairseq, ours)."""
    return [
        {
            **{"size": row.size, "precision": row.precision, "side": side},
            "words_per_second": _scaled(found, "words_per_second"),
            **{
                name: getattr(found, name, None)
                for name in ("peak_memory", "share_of_peak", "parameters", "error")
            },
        }
        for row in result.rows
        for side, found in zip(BOTH, (row.stock, row.ours))
    ]


def _draw(result: Result) -> dict[str, Picture]:
    """Describe the picture: bars of speed, peak memory and share of the peak rate."""
    groups = [f"{row.size}, {row.precision}" for row in result.rows]

    def values(name: str, scale: float = 1.0) -> list[Series]:
        return [
            Series(side, [_scaled(getattr(row, side), name, scale) for row in result.rows])
            for side in BOTH
        ]

    ratio = series("ours/stock", [row.ratio.speed if row.ratio else None for row in result.rows])
    panels = [
        Bars("Training speed", "ours/stock", groups, [ratio], 1),
        Bars("Training speed", "words per second", groups, values("words_per_second")),
        Bars("Peak memory", "GiB", groups, values("peak_memory", 1 / GIB)),
        Bars("Matrix units", "% of their peak", groups, values("share_of_peak", 100)),
    ]
    known = [
        panel
        for panel in panels
        if any(value is not None for series in panel.series for value in series.values)
    ]
    return {"gpu": Picture("Training, one model alive at a time", known or panels)}


def _scaled(side: Union[Speed, Failed], name: str, scale: float = 1.0) -> Optional[float]:
    """Return ``scale`` times the measurement ``name`` (a spread's median); None if missing."""
    value = getattr(side, name, None)
    value = value.median if isinstance(value, Spread) else value
    return None if value is None else value * scale


def _read(result: Result) -> list[str]:
    """Return the findings as lines of text: one per model size and precision."""
    lines = [
        f"Training on {result.device}: median of {result.options.blocks} blocks of "
        f"{result.options.updates} updates in alternating order (lowest to highest), one model "
        "alive at a time"
    ]
    for row in result.rows:
        ratio = "n/a"
        if row.ratio:
            speed, memory = row.ratio.speed, row.ratio.memory
            ratio = f"{speed.median:.3f} ({speed.lowest:.3f} to {speed.highest:.3f})"
            ratio += "" if memory is None else f", memory {memory:.3f}"
        lines.append(
            f"{row.size}, {row.precision}: stock {_summary(row.stock)}; ours {_summary(row.ours)}; "
            f"ratio {ratio}"
        )
    return lines


def _summary(side: Union[Speed, Failed]) -> str:
    """Return the measurements of stock fairseq or ours, or its error, as text."""
    if isinstance(side, Failed):
        return side.error
    summary = f"{side.words_per_second.median:.0f} words/s"
    if side.peak_memory is not None:
        summary += f", {side.peak_memory / GIB:.2f} GiB"
    if side.share_of_peak is not None:
        summary += f", {side.share_of_peak:.1%} of the peak"
    return summary + (f", {side.skipped_updates} updates skipped" if side.skipped_updates else "")


STUDY = Study(
    help="measure speed, peak memory and share of the device's peak rate, from IWSLT size to "
    "100L-100L in half precision, or of --arch; one model is in memory at a time, and one that "
    "does not fit is reported",
    options=Options,
    measure=_measure,
    rows=_rows,
    draw=_draw,
    read=_read,
    pictures=["gpu"],
)
