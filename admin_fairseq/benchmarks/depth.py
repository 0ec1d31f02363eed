"""Measure how the time and the peak memory of a training step grow with depth.

Stock fairseq and this plugin ("ours") are measured at several depths N. A step takes a + b·N, where
a does not depend on depth (embeddings, softmax and their updates), so the slope on logarithmic axes
is below 1 and approaches 1 with depth. Slopes between neighbouring depths show where something
grows faster.

Times are measured in one process, stock and ours in alternating order; peaks in separate processes
(``isolated``).
"""

# no postponed annotations: fairseq's parser generator reads types
import logging
from dataclasses import dataclass, field, replace
from typing import Optional, Sequence

from fairseq import tasks
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics

from admin_fairseq.benchmarks import options as common
from admin_fairseq.benchmarks import sides
from admin_fairseq.benchmarks.isolated import MIB, Peak, peak_of
from admin_fairseq.benchmarks.options import Workload
from admin_fairseq.benchmarks.sides import BOTH, Side
from admin_fairseq.benchmarks.summaries import Spread, neighbour_slopes, ratios, slope, spread
from admin_fairseq.benchmarks.trainers import TrainingBlock, alternate, timed_block, warmed_up
from admin_fairseq.fairseq_runs import first_batches
from admin_fairseq.studies.options import Depth, depths, option
from admin_fairseq.studies.pictures import Line, Panel, Picture
from admin_fairseq.studies.study import Row, Study

logger = logging.getLogger(__name__)

UPDATES_OF_A_PEAK = 2  # trained to measure a peak; see isolated.peak_of
MEASURES = {"seconds_per_update": "seconds per update", "peak_memory": "peak memory, MiB"}
"""Measure → its label in pictures."""


@dataclass
class SmallWorkload(Workload):
    """The models trained by default: narrow, so that 200 layers take minutes.

    ``--depths`` sets their numbers of layers.
    """

    arch: str = option("admin_transformer_tiny", "our architecture")
    vocabulary: int = common.vocabulary(1000)
    max_tokens: int = common.max_tokens(512)


@dataclass
class Options(FairseqDataclass):
    """The options of ``admin-fairseq benchmark depth``."""

    conditions: SmallWorkload = field(default_factory=SmallWorkload)
    depths: Sequence[Depth] = depths(
        "6,12,24,48,96,200",
        "layers: 6,12 (both stacks) or 12-6,24-6; --encoder-layers or --decoder-layers keeps one "
        "stack at a depth of its own",
    )
    our_words: Sequence[str] = common.ours()
    stock_words: Sequence[str] = common.stock()
    updates: int = common.updates(2)
    blocks: int = common.blocks(3)
    warmup_updates: int = common.warmup_updates(2)
    memory: bool = option(
        True, "measure only times, not memory, which is faster", names=("--no-memory",)
    )


@dataclass(frozen=True)
class Cost:
    """Step time and peak memory (bytes) of stock fairseq or of ours at one depth.

    ``memory_error`` says why the peak is missing.
    """

    command: str
    seconds_per_update: Spread
    peak_memory: Optional[int]
    memory_error: Optional[str]

    def of(self, measure: str) -> Optional[float]:
        """Return the value of a measure in ``MEASURES``: median seconds, or bytes of memory."""
        return self.seconds_per_update.median if "seconds" in measure else self.peak_memory


@dataclass(frozen=True)
class Point:
    """The measurements of stock fairseq and ours at one depth; ``speed_ratio`` is ours/stock.

    ``layers`` is the sum of encoder and decoder layers.
    """

    depth: str
    layers: int
    stock: Cost
    ours: Cost
    speed_ratio: Spread


@dataclass(frozen=True)
class Slopes:
    """Slopes of a measure on logarithmic axes: over all depths, and from each to the next."""

    all: float
    layers: list[int]
    neighbours: list[float]


@dataclass(frozen=True)
class Result:
    """The result of ``admin-fairseq benchmark depth``.

    ``slopes`` maps "stock" or "ours", then a measure, to its slopes; None if fewer than two depths
    were measured.
    """

    options: Options
    points: list[Point]
    slopes: dict[str, dict[str, Optional[Slopes]]]


def _measure(options: Options) -> Result:
    """Measure stock fairseq and ours at every depth, once, and compute the slopes.

    ``--encoder-layers`` or ``--decoder-layers`` keeps a stack at one depth. Raises AdminError if
    the options are wrong or there is not enough memory for timing.
    """
    given = options.conditions
    chosen = [
        Depth(given.encoder_layers or depth.encoder, given.decoder_layers or depth.decoder)
        for depth in options.depths
    ]
    points = [_point(depth, options) for depth in dict.fromkeys(chosen)]
    slopes = {side: {name: _slopes(points, side, name) for name in MEASURES} for side in BOTH}
    return Result(options, points, slopes)


def _point(depth: Depth, options: Options) -> Point:
    """Measure stock fairseq and ours at one depth."""
    workload = replace(
        options.conditions, encoder_layers=depth.encoder, decoder_layers=depth.decoder
    )
    both = sides.pair(workload, options.stock_words, options.our_words)
    times = _times(both, options)
    costs = {name: _cost(side, times[name], options) for name, side in both.items()}
    for name, cost in costs.items():
        logger.info(f"{depth} layers, {name}: {_summary(cost)}")
    by_block = ratios(times["stock"], times["ours"])  # of speeds
    return Point(str(depth), sum(depth), **costs, speed_ratio=spread(by_block))


def _cost(side: Side, times: Sequence[float], options: Options) -> Cost:
    """Measure the peak memory of stock fairseq or ours (unless ``--no-memory``).

    Returns it together with ``times``, the seconds per update that were measured before.
    """
    peak = Peak(error="not measured")
    if options.memory:
        peak = peak_of(side, UPDATES_OF_A_PEAK)
    return Cost(side.command, spread(times), peak.peak_memory, peak.error)


def _times(both: dict[str, Side], options: Options) -> dict[str, list[float]]:
    """Time stock fairseq and ours by turns; returns the seconds per update of every block."""
    warmup, updates = options.warmup_updates, options.updates
    with metrics.aggregate(new_root=True):
        run = both["stock"].run
        task = tasks.setup_task(run.task)
        batches = first_batches(task, run, warmup + updates * options.blocks)
        trainers = warmed_up(both, task, batches[:warmup])

        def describe(name: str, i: int, found: TrainingBlock) -> str:
            time = found.seconds / updates
            return f"block {i + 1} of {options.blocks}, {name}: {time:.4f} s per update"

        blocks = alternate(trainers, batches[warmup:], updates, timed_block, describe)
    return {name: [block.seconds / updates for block in some] for name, some in blocks.items()}


def _slopes(points: Sequence[Point], side: str, measure: str) -> Optional[Slopes]:
    """Compute the slopes of a measure for stock fairseq or ours; None for fewer than two depths."""
    known = _known(points, side, measure)
    if len(known) < 2:
        return None
    layers, values = map(list, zip(*known))
    return Slopes(slope(layers, values), layers, neighbour_slopes(layers, values))


def _known(points: Sequence[Point], side: str, measure: str) -> list[tuple]:
    """Return (layers, value) at every depth at which the measure is known."""
    values = ((point.layers, getattr(point, side).of(measure)) for point in points)
    return [(layers, value) for layers, value in values if value]


def _rows(result: Result) -> list[Row]:
    """Return the rows of the CSV file: one per depth, side (stock fairseq or ours) and block."""
    return [
        {
            **{"depth": point.depth, "layers": point.layers, "side": side, "block": block},
            "seconds_per_update": seconds,
            "peak_memory": getattr(point, side).peak_memory,
        }
        for point in result.points
        for side in BOTH
        for block, seconds in enumerate(getattr(point, side).seconds_per_update.by_block, 1)
    ]


def _draw(result: Result) -> dict[str, Picture]:
    """Describe the picture: a panel per measure, with a line for stock fairseq and one for ours."""
    panels = []
    for name, label in MEASURES.items():
        lines = [_line(result.points, side, name, color) for color, side in enumerate(BOTH)]
        if any(line.x for line in lines):
            title = f"{label.split(',')[0].capitalize()} against depth"
            both = "layers of encoder and decoder"
            panels.append(Panel(title, both, label, lines, x_log=True, y_log=True))
    caption = "Cost of a training step against depth"
    return {"depth": Picture(caption, panels, columns=len(panels), share=False)}


def _line(points: Sequence[Point], side: str, measure: str, color: int) -> Line:
    """Describe the line of a measure against depth, for stock fairseq or ours."""
    known = _known(points, side, measure)
    unit = MIB if measure == "peak_memory" else 1
    return Line([layers for layers, _ in known], [value / unit for _, value in known], side, color)


def _read(result: Result) -> list[str]:
    """Return the findings as lines of text: one per depth, then one per slope."""
    asked = result.options
    lines = [
        f"Step time (median of {asked.blocks} blocks of {asked.updates} updates in alternating "
        "order) and peak memory (in a separate process) against depth"
    ]
    for point in result.points:
        ratio = point.speed_ratio
        lines.append(
            f"{point.depth}: stock {_summary(point.stock)}; ours {_summary(point.ours)}; "
            f"speed {ratio.median:.3f} ({ratio.lowest:.3f} to {ratio.highest:.3f})"
        )
    for side, slopes in result.slopes.items():
        for name, found in slopes.items():
            if found is not None:
                steps = ", ".join(f"{one:.3f}" for one in found.neighbours)
                label = MEASURES[name].split(",")[0]
                lines.append(f"slope of {label}, {side}: {found.all:.3f} (neighbours: {steps})")
    return lines


def _summary(cost: Cost) -> str:
    """Return step time and peak memory as text."""
    memory = cost.memory_error if cost.peak_memory is None else f"{cost.peak_memory / MIB:.0f} MiB"
    return f"{cost.seconds_per_update.median:.4f} s, {memory}"


STUDY = Study(
    help="measure time and peak memory of a training step against depth, and their slopes on "
    "logarithmic axes, over all depths and from each to the next",
    options=Options,
    measure=_measure,
    rows=_rows,
    draw=_draw,
    read=_read,
    pictures=["depth"],
)
