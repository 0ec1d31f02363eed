"""Peak memory of a training step, with and without checkpointing of activations.

Every measurement is a process of its own, see ``isolated``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from itertools import chain
from statistics import median
from typing import TYPE_CHECKING, Optional, Sequence

from admin_fairseq.benchmarks import bars, sides
from admin_fairseq.benchmarks.bars import Bars, Series
from admin_fairseq.benchmarks.isolated import Peak, peak_of
from admin_fairseq.benchmarks.script import Result, Table, Tell
from admin_fairseq.benchmarks.sides import Conditions, Side

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MIB = 2**20

CASES = {"all activations kept": (), "activations checkpointed": ("--checkpoint-activations",)}
"""Case → options that both sides get."""

DEEP = {
    "arch": "admin_transformer",
    "encoder_layers": 60,
    "decoder_layers": 12,
    "vocabulary": 32768,
    "max_tokens": 4096,
}
WIDTH = ("--encoder-embed-dim", "256", "--encoder-ffn-embed-dim", "1024")
WIDTH += ("--decoder-embed-dim", "256", "--decoder-ffn-embed-dim", "1024")
WIDTH += ("--encoder-attention-heads", "4", "--decoder-attention-heads", "4")
"""60L-12L of width 256, where the user says nothing else."""


@dataclass(frozen=True)
class Options:
    conditions: Conditions = field(default_factory=lambda: Conditions(**DEEP, words=WIDTH))
    our_words: Sequence[str] = ("--criterion", "label_smoothed_cross_entropy_chunked")
    stock_words: Sequence[str] = ()
    updates: int = 2
    repeats: int = 1


def measure(options: Options, tell: Tell) -> Result:
    """Raises AdminError where the options are wrong; a case without memory enough says so."""
    options.conditions.check()
    both = (
        sides.stock(options.conditions, words=options.stock_words),
        sides.ours(options.conditions, words=options.our_words),
    )
    pairs = [[side.but(*words) for side in both] for words in CASES.values()]
    for side in chain(*pairs):
        side.check()  # before anything runs
    cases = []
    for name, pair in zip(CASES, pairs):
        stock, ours = (_peaks(name, side, options, tell) for side in pair)
        known = stock["peak_memory"] and ours["peak_memory"]
        ratio = ours["peak_memory"] / stock["peak_memory"] if known else None
        cases.append({"name": name, "stock": stock, "ours": ours, "ratio": ratio})
    return {"options": asdict(options), "updates": options.updates, "cases": cases}


def _peaks(case: str, side: Side, options: Options, tell: Tell) -> Result:
    peaks = []
    for i in range(options.repeats):
        peaks.append(peak_of(side, options.updates))
        tell(f"{case}, {side.name}, {i + 1} of {options.repeats}: {_told(peaks[-1])}")
    known = [peak.peak_memory for peak in peaks if peak.peak_memory is not None]
    return {
        "command": side.command,
        "peak_memory": median(known) if known else None,
        "by_repeat": [peak._asdict() for peak in peaks],
        "parameters": peaks[0].parameters,
        "error": next((peak.error for peak in peaks if peak.error), None),
    }


def _told(peak: Peak) -> str:
    if peak.peak_memory is None:
        return peak.error
    return f"{peak.peak_memory / MIB:.0f} MiB, {peak.seconds_per_update:.1f} s an update"


def draw(result: Result) -> Figure:
    cases = result["cases"]
    series = [Series(side, [_mib(case[side]) for case in cases]) for side in ("stock", "ours")]
    title = "Peak memory of a training step"
    return bars.draw([Bars(title, "MiB", [case["name"] for case in cases], series)])


def _mib(side: Result) -> Optional[float]:
    return None if side["peak_memory"] is None else side["peak_memory"] / MIB


def report(result: Result) -> list[str]:
    on_gpu = result["machine"]["device"] != "CPU"
    kind = "allocated on the GPU" if on_gpu else "resident"
    lines = [f"Peak memory ({kind}) of {result['updates']} updates, each in a process of its own"]
    for case in result["cases"]:
        both = []
        for name in ("stock", "ours"):
            mib = _mib(case[name])
            both.append(f"{name} {case[name]['error'] if mib is None else f'{mib:.0f} MiB'}")
        ratio = "n/a" if case["ratio"] is None else f"{case['ratio']:.3f}"
        lines.append(f"{case['name']}: {', '.join(both)}, ratio {ratio}")
    return lines


TABLE = Table("memory", measure, draw, report)
