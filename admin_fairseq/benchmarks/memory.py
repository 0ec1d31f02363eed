"""Measure the peak memory of a training step, with and without activation checkpointing.

Every measurement runs in a separate process; see ``isolated``.
"""

# no postponed annotations: fairseq's parser generator reads types
import logging
from dataclasses import dataclass, field
from statistics import median
from typing import Optional, Sequence

from fairseq.dataclass import FairseqDataclass

from admin_fairseq.benchmarks import options as common
from admin_fairseq.benchmarks import sides
from admin_fairseq.benchmarks.isolated import MIB, Peak, peak_of
from admin_fairseq.benchmarks.options import Workload
from admin_fairseq.benchmarks.sides import BOTH, Side
from admin_fairseq.bounds import counting
from admin_fairseq.studies.options import option
from admin_fairseq.studies.pictures import Bars, Picture, Series
from admin_fairseq.studies.study import Row, Study

logger = logging.getLogger(__name__)

CASES = {"all activations kept": (), "activations checkpointed": ("--checkpoint-activations",)}
"""Case → options that both stock and ours get."""

WIDTH_OPTIONS = (
    *("--encoder-embed-dim", "256", "--encoder-ffn-embed-dim", "1024"),
    *("--decoder-embed-dim", "256", "--decoder-ffn-embed-dim", "1024"),
    *("--encoder-attention-heads", "4", "--decoder-attention-heads", "4"),
)
"""Widths of the default model, which is deep; the user's options come later and override these."""


@dataclass
class DeepWorkload(Workload):
    """The model trained by default: 60 encoder and 12 decoder layers, 256 wide."""

    arch: str = option(
        "admin_transformer", "our architecture; the default has " + " ".join(WIDTH_OPTIONS)
    )
    encoder_layers: Optional[int] = common.layers("encoder", 60)
    decoder_layers: Optional[int] = common.layers("decoder", 12)
    vocabulary: int = common.vocabulary(32768)
    max_tokens: int = common.max_tokens(4096)

    def __post_init__(self) -> None:
        """Put the default widths before the user's options, for the default architecture."""
        if (
            self.arch == "admin_transformer"
            and tuple(self.words[: len(WIDTH_OPTIONS)]) != WIDTH_OPTIONS
        ):
            self.words = (*WIDTH_OPTIONS, *self.words)


@dataclass
class Options(FairseqDataclass):
    """The options of ``admin-fairseq benchmark memory``."""

    conditions: DeepWorkload = field(default_factory=DeepWorkload)
    our_words: Sequence[str] = common.ours(("--criterion", "label_smoothed_cross_entropy_chunked"))
    stock_words: Sequence[str] = common.stock()
    updates: int = option(2, "updates for which each model is trained", counting(1, 10_000))
    repeats: int = option(
        1, "how often each model is measured, in a new process every time", counting(1, 1000)
    )


@dataclass(frozen=True)
class Peaks:
    """Peak memory (bytes) of stock fairseq or of ours, with or without checkpointing.

    ``peak_memory`` is the median over repeats; ``error`` is that of the first repeat that failed.
    """

    command: str
    peak_memory: Optional[float]
    by_repeat: list[Peak]
    parameters: Optional[int]
    error: Optional[str]

    @property
    def mib(self) -> Optional[float]:
        """Return the median peak in MiB; None if every repeat failed."""
        return None if self.peak_memory is None else self.peak_memory / MIB


@dataclass(frozen=True)
class Case:
    """Peak memory of stock fairseq and ours with or without checkpointing, and the ratio."""

    name: str
    stock: Peaks
    ours: Peaks
    ratio: Optional[float]


@dataclass(frozen=True)
class Result:
    """The result of ``admin-fairseq benchmark memory``."""

    options: Options
    updates: int
    on_gpu: bool
    cases: list[Case]


def _measure(options: Options) -> Result:
    """Measure the peak memory of stock fairseq and ours, with and without checkpointing.

    Raises AdminError if the options are wrong; a lack of memory is reported in the result.
    """
    both = sides.pair(options.conditions, options.stock_words, options.our_words)
    cases = []
    for name, words in CASES.items():
        stock, ours = (_peaks(name, both[side].with_options(*words), options) for side in BOTH)
        ratio = None
        if stock.peak_memory and ours.peak_memory:
            ratio = ours.peak_memory / stock.peak_memory
        cases.append(Case(name, stock, ours, ratio))
    return Result(options, options.updates, options.conditions.on_gpu, cases)


def _peaks(case: str, side: Side, options: Options) -> Peaks:
    """Measure the peak memory of ``side`` as often as ``--repeats`` says, in new processes."""
    peaks = []
    for i in range(options.repeats):
        peaks.append(peak_of(side, options.updates))
        logger.info(f"{case}, {side.name}, {i + 1} of {options.repeats}: {_summary(peaks[-1])}")
    known = [peak.peak_memory for peak in peaks if peak.peak_memory is not None]
    return Peaks(
        command=side.command,
        peak_memory=median(known) if known else None,
        by_repeat=peaks,
        parameters=peaks[0].parameters,
        error=next((peak.error for peak in peaks if peak.error), None),
    )


def _summary(peak: Peak) -> str:
    """Return a peak and the time per update, or the error, as text."""
    if peak.peak_memory is None:
        return str(peak.error)
    return f"{peak.peak_memory / MIB:.0f} MiB, {peak.seconds_per_update:.1f} s per update"


def _rows(result: Result) -> list[Row]:
    """Return the rows of the CSV file: one per case, side (stock fairseq or ours) and repeat."""
    return [
        {"case": case.name, "side": side, "repeat": number, **vars(peak)}
        for case in result.cases
        for side in BOTH
        for number, peak in enumerate(getattr(case, side).by_repeat, 1)
    ]


def _draw(result: Result) -> dict[str, Picture]:
    """Describe the picture: bars of peak memory for every case."""
    series = [Series(side, [getattr(case, side).mib for case in result.cases]) for side in BOTH]
    title = "Peak memory of a training step"
    bars = Bars(title, "MiB", [case.name for case in result.cases], series)
    return {"memory": Picture(title, [bars])}


def _read(result: Result) -> list[str]:
    """Return the findings as lines of text: one per case."""
    kind = "allocated on the GPU" if result.on_gpu else "resident"
    lines = [f"Peak memory ({kind}) of {result.updates} updates, each in a separate process"]
    for case in result.cases:
        both = []
        for name in BOTH:
            peaks = getattr(case, name)
            both.append(f"{name} {peaks.error if peaks.mib is None else f'{peaks.mib:.0f} MiB'}")
        ratio = "n/a" if case.ratio is None else f"{case.ratio:.3f}"
        lines.append(f"{case.name}: {', '.join(both)}, ratio {ratio}")
    return lines


STUDY = Study(
    help="measure peak memory of a training step with and without --checkpoint-activations, each "
    "measured in a separate process; takes several GiB and some minutes by default",
    options=Options,
    measure=_measure,
    rows=_rows,
    draw=_draw,
    read=_read,
    pictures=["memory"],
)
