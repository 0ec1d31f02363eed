"""Step time and peak memory against depth, and the slope of both on logarithmic axes.

A step takes a + b·N: a is what does not depend on depth (embeddings, softmax, and the updates of
their weights), so the slope lies below 1 and nears it with depth. The slopes between neighbouring
depths say where something grows faster than that.

Times are those of stock and ours in turns in one process; peaks are measured in processes of
their own (``isolated``).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Optional, Sequence

from fairseq import tasks
from fairseq.logging import metrics

from admin_fairseq.analysis.bench import Depth
from admin_fairseq.benchmarks import sides
from admin_fairseq.benchmarks.isolated import Peak, peak_of
from admin_fairseq.benchmarks.script import Result, Table, Tell
from admin_fairseq.benchmarks.sides import Conditions, Side
from admin_fairseq.benchmarks.summaries import neighbour_slopes, ratios, slope, spread
from admin_fairseq.benchmarks.trainers import new_trainer, timed_block, train
from admin_fairseq.benchmarks.turns import take_turns
from admin_fairseq.fairseq_runs import first_batches
from admin_fairseq.pictures import Line, Panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SMALL = {"arch": "admin_transformer_tiny", "vocabulary": 1000, "max_tokens": 512}
DEPTHS = tuple(Depth(n, n) for n in (6, 12, 24, 48, 96, 200))
UPDATES_OF_A_PEAK = 2
MEASURES = {"seconds_per_update": "seconds per update", "peak_memory": "peak memory, MiB"}
MIB = 2**20


@dataclass(frozen=True)
class Options:
    conditions: Conditions = field(default_factory=lambda: Conditions(**SMALL))
    depths: Sequence[Depth] = DEPTHS
    our_words: Sequence[str] = ()
    stock_words: Sequence[str] = ()
    updates: int = 2
    blocks: int = 3
    warmup_updates: int = 2
    memory: bool = True


def measure(options: Options, tell: Tell) -> Result:
    """Raises AdminError where the options are wrong or the memory does not suffice for timing."""
    options.conditions.check()
    points = [_point(depth, options, tell) for depth in options.depths]
    return {
        "options": asdict(options),
        "points": points,
        "slopes": {
            side: {name: _slopes(points, side, name) for name in MEASURES}
            for side in ("stock", "ours")
        },
    }


def _point(depth: Depth, options: Options, tell: Tell) -> Result:
    conditions = replace(
        options.conditions, encoder_layers=depth.encoder, decoder_layers=depth.decoder
    )
    both = {
        "stock": sides.stock(conditions, words=options.stock_words),
        "ours": sides.ours(conditions, words=options.our_words),
    }
    times = _times(both, options)
    point = {"depth": str(depth), "layers": sum(depth)}
    for name, side in both.items():
        peak = peak_of(side, UPDATES_OF_A_PEAK) if options.memory else Peak(error="not asked for")
        point[name] = {
            "command": side.command,
            "seconds_per_update": {**spread(times[name]), "by_block": times[name]},
            "peak_memory": peak.peak_memory,
            "memory_error": peak.error,
        }
        told = "n/a" if peak.peak_memory is None else f"{peak.peak_memory / MIB:.0f} MiB"
        tell(f"{depth} layers, {name}: {_value(point[name], 'seconds_per_update'):.3f} s, {told}")
    by_block = ratios(times["stock"], times["ours"])  # of speeds
    return {**point, "speed_ratio": {**spread(by_block), "by_block": by_block}}


def _times(both: dict[str, Side], options: Options) -> dict[str, list[float]]:
    """Seconds of an update in every block."""
    count = options.warmup_updates + options.updates * options.blocks
    with metrics.aggregate(new_root=True):
        runs = {name: side.run for name, side in both.items()}
        task = tasks.setup_task(runs["stock"].task)
        batches = first_batches(task, runs["stock"], count)
        warmup, timed = batches[: options.warmup_updates], batches[options.warmup_updates :]
        trainers = {name: new_trainer(run, task) for name, run in runs.items()}
        for trainer in trainers.values():
            train(trainer, warmup)

        def seconds(name: str, i: int) -> float:
            mine = timed[i * options.updates : (i + 1) * options.updates]
            return timed_block(trainers[name], mine).seconds / options.updates

        return take_turns({name: partial(seconds, name) for name in both}, options.blocks)


def _value(side: Result, name: str) -> Optional[float]:
    value = side[name]
    return value["median"] if isinstance(value, dict) else value


def _slopes(points: Sequence[Result], side: str, name: str) -> Optional[Result]:
    """None where fewer than two depths were measured."""
    known = [(p["layers"], _value(p[side], name)) for p in points if _value(p[side], name)]
    if len(known) < 2:
        return None
    layers, values = zip(*known)
    return {
        "all": slope(layers, values),
        "layers": list(layers),
        "neighbours": neighbour_slopes(layers, values),
    }


def draw(result: Result) -> Figure:
    from admin_fairseq import drawing  # matplotlib, which only pictures need

    panels = []
    for name, label in MEASURES.items():
        lines = [
            _line(result["points"], side, name, color)
            for color, side in enumerate(("stock", "ours"))
        ]
        if any(line.x for line in lines):
            title = f"{label.split(',')[0].capitalize()} against depth"
            both = "layers of encoder and decoder"
            panels.append(Panel(title, both, label, lines, x_log=True, y_log=True))
    return drawing.draw(panels, share=False)


def _line(points: Sequence[Result], side: str, name: str, color: int) -> Line:
    known = [point for point in points if _value(point[side], name)]
    layers = [point["layers"] for point in known]
    unit = MIB if name == "peak_memory" else 1
    return Line(layers, [_value(point[side], name) / unit for point in known], side, color)


def report(result: Result) -> list[str]:
    asked = result["options"]
    lines = [
        f"Step time (median of {asked['blocks']} blocks of {asked['updates']} updates in turns) "
        "and peak memory (a process of its own) against depth"
    ]
    for point in result["points"]:
        ratio = point["speed_ratio"]
        lines.append(
            f"{point['depth']}: {_told(point['stock'], 'stock')}; {_told(point['ours'], 'ours')}; "
            f"speed {ratio['median']:.3f} ({ratio['lowest']:.3f} to {ratio['highest']:.3f})"
        )
    for side, slopes in result["slopes"].items():
        for name, found in slopes.items():
            if found is not None:
                steps = ", ".join(f"{one:.3f}" for one in found["neighbours"])
                label = MEASURES[name].split(",")[0]
                lines.append(f"slope of {label}, {side}: {found['all']:.3f} (neighbours: {steps})")
    return lines


def _told(side: Result, name: str) -> str:
    memory = side["peak_memory"]
    told = side["memory_error"] if memory is None else f"{memory / MIB:.0f} MiB"
    return f"{name} {_value(side, 'seconds_per_update'):.4f} s, {told}"


TABLE = Table("depth", measure, draw, report)
