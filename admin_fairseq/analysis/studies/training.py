"""Study what happened inside models while they trained, from runs with --log-dynamics.

Loss and Σ β_ii² over updates, runs side by side; for each run and stack, over depth and updates,
the residual scale (ω or α), the gradient, and the update relative to the weights. From epoch
checkpoints, the distribution of gradients and updates (Liu et al. 2020, Figure 5).
"""

# no postponed annotations: fairseq's parser generator reads types
import logging
import math
import os
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Iterator, Optional, Sequence

from fairseq.dataclass import FairseqDataclass

from admin_fairseq.analysis.bench import Bench
from admin_fairseq.analysis.epochs import Epoch, epoch_checkpoints, measured_epochs
from admin_fairseq.analysis.options import Conditions
from admin_fairseq.analysis.studies.gradients import QUANTITIES as KINDS
from admin_fairseq.analysis.studies.gradients import histogram
from admin_fairseq.errors import AdminError
from admin_fairseq.files import require_folder
from admin_fairseq.repairs.run_log import DYNAMICS, NAME
from admin_fairseq.results.dynamics import Dynamics, SubLayer, read_dynamics
from admin_fairseq.results.logs import Point, read_log
from admin_fairseq.studies.options import option
from admin_fairseq.studies.pictures import HeatMap, Line, Panel, Picture
from admin_fairseq.studies.study import Row, Study

logger = logging.getLogger(__name__)

STACKS = ("encoder", "decoder")

QUANTITIES = {
    "scale": "log₁₀ of the mean ω or |α|",
    "gradient": "log₁₀ of the gradient's norm",
    "relative_update": "log₁₀ of update / weights",
}
"""What the heat maps show → its label."""


@dataclass
class Runs(FairseqDataclass):
    """The options of ``admin-fairseq analyze training``."""

    runs: Sequence[str] = option(
        (),
        "folder of a run that was trained with --log-dynamics",
        names=("runs",),
        metavar="RUN",
        nargs="+",
        type=str,
    )
    data: Optional[str] = option(
        None,
        "the folder that the runs were trained on: also draw how gradients and updates are "
        "distributed after each epoch that has a checkpoint, on one of its batches",
        metavar="DATA_BIN",
    )
    cpu: bool = option(False, "use the CPU even if there is a GPU")


@dataclass(frozen=True)
class Measured:
    """One sub-layer at one update; None where a number is not finite, or there is no scale."""

    update: int
    stack: str
    layer: int
    sublayer: str
    scale: Optional[float]
    input_variance: Optional[float]
    branch_variance: Optional[float]
    gradient: Optional[float]
    relative_update: Optional[float]  # norm of the update / norm of the weights


@dataclass(frozen=True)
class Share:
    """Σ β_ii² of one stack at a validation: the branches' share in what they are added to."""

    update: int
    stack: str
    own: Optional[float]


@dataclass(frozen=True)
class WatchedRun:
    """A run under the name that it has in the pictures; losses are (update, bits per token)."""

    name: str
    training: list[tuple[int, float]]
    validation: list[tuple[int, float]]
    shares: list[Share]
    measured: list[Measured]
    epochs: list[Epoch] = field(default_factory=list)


@dataclass(frozen=True)
class Result:
    """The result of ``admin-fairseq analyze training``."""

    runs: list[WatchedRun]


def _measure(options: Runs) -> Result:
    """Read the runs' dynamics.jsonl and train.log, and with --data measure their epochs.

    Raises AdminError if a file cannot be read, or if a checkpoint does not fit the data.
    """
    check_runs(options.runs)
    runs = {folder: _watched(name, folder) for folder, name in _names(options.runs).items()}
    if options.data is not None:
        require_folder(options.data)
        bench = Bench(Conditions(data=options.data, cpu=options.cpu))
        runs = {folder: replace(run, epochs=_epochs(folder, bench)) for folder, run in runs.items()}
    return Result(list(runs.values()))


def _epochs(folder: str, bench: Bench) -> list[Epoch]:
    """Measure the epochs of a run; warn if there are too few checkpoints for one."""
    checkpoints = epoch_checkpoints(folder)
    if len(checkpoints) > 1:
        return measured_epochs(checkpoints, bench)
    logger.warning(
        "%s: no histograms, which need two epoch checkpoints; train without --no-epoch-checkpoints",
        folder,
    )
    return []


def check_runs(folders: Sequence[str]) -> None:
    """Raise AdminError if one of the folders is missing or has no dynamics; takes no time."""
    for folder in folders:
        require_folder(folder)
        if not os.path.isfile(os.path.join(folder, DYNAMICS)):
            raise AdminError(f"{folder}: no {DYNAMICS}; train with --log-dynamics N")


def _names(folders: Sequence[str]) -> dict[str, str]:
    """Return folder → a title: its name or, if not unique, the whole path."""
    short = {folder: os.path.basename(os.path.abspath(folder)) for folder in folders}
    return short if len(set(short.values())) == len(short) else {folder: folder for folder in short}


def _watched(name: str, folder: str) -> WatchedRun:
    """Read one run."""
    dynamics = read_dynamics(os.path.join(folder, DYNAMICS))
    if not any(dynamics.updates.values()):
        raise AdminError(f"{folder}: {DYNAMICS} has no update yet")
    log = read_log(os.path.join(folder, NAME))
    return WatchedRun(
        name, _curve(log.training), _curve(log.validation), _shares(dynamics), _all(dynamics)
    )


def _curve(points: Sequence[Point]) -> list[tuple[int, float]]:
    """Return (update, loss) of the points whose loss is finite."""
    return [(point.update, point.loss) for point in points if math.isfinite(point.loss)]


def _shares(dynamics: Dynamics) -> list[Share]:
    """Return Σ β_ii² of every validation and stack."""
    return [
        Share(update, stack, found.own)
        for update, stacks in dynamics.validations.items()
        for stack, found in stacks.items()
    ]


def _all(dynamics: Dynamics) -> list[Measured]:
    """Return every sub-layer of every update."""
    return [
        Measured(
            update,
            *(found.stack, found.layer, found.sublayer),
            found.scale.mean if found.scale else None,
            *(found.input_variance, found.branch_variance, found.gradient),
            _relative_update(found),
        )
        for update, sublayers in dynamics.updates.items()
        for found in sublayers
    ]


def _relative_update(found: SubLayer) -> Optional[float]:
    """Return the norm of the update divided by that of the weights; None if that is unknown."""
    if found.update is None or not found.weights:
        return None
    ratio = found.update / found.weights
    return ratio if math.isfinite(ratio) else None


def _rows(result: Result) -> list[Row]:
    """Return the rows of the CSV file: per update and sub-layer, then per epoch and matrix."""
    return [
        {"run": run.name, **found}
        for run in result.runs
        for found in (*map(vars, run.measured), *_matrices(run.epochs))
    ]


def _matrices(epochs: Sequence[Epoch]) -> Iterator[Row]:
    """Yield a row for each epoch and matrix."""
    for epoch in epochs:
        for name, gradient, update in zip(epoch.names, epoch.gradients, epoch.updates):
            yield {"epoch": epoch.number, "matrix": name, "gradient": gradient, "change": update}


def _draw(result: Result) -> dict[str, Picture]:
    """Describe the pictures: curves of all runs, heat maps of each run's stacks, histograms."""
    maps = [
        HeatMap(
            f"{run.name}, {stack}" + ("" if any(map(math.isfinite, chain(*values))) else ": none"),
            "update",
            "sub-layer i",
            values,
            label,
            extent=(edges[0], edges[-1], len(found[0]) + 0.5, 0.5),
            columns=edges,
        )
        for run in result.runs
        for stack in STACKS
        for found in [_by_update(run, stack)]
        if found
        for edges in [_edges([column[0].update for column in found])]
        for quantity, label in QUANTITIES.items()
        for values in [_logarithms(found, quantity)]
    ]
    pictures = {
        "training": Picture("Loss, and the branches' share Σ β_ii²", _curves(result), 2, False),
        "training_layers": Picture("Over depth and updates", maps, len(QUANTITIES)),
    }
    panels = _histograms(result)
    if panels:
        caption = (
            "Gradients on one batch after each epoch, and changes in the next, of all matrices"
        )
        pictures["training_epochs"] = Picture(caption, panels, min(len(panels), 4))
    return pictures


def _edges(updates: Sequence[int]) -> list[float]:
    """Return where the columns of a heat map begin and end: halfway between ``updates``.

    The outer columns reach as far to both sides; a single one is 1 wide.
    """
    if len(updates) == 1:
        return [updates[0] - 0.5, updates[0] + 0.5]
    between = [(one + other) / 2 for one, other in zip(updates, updates[1:])]
    return [2 * updates[0] - between[0], *between, 2 * updates[-1] - between[-1]]


def _histograms(result: Result) -> list[Panel]:
    """Describe a panel for each epoch: a line for each run and kind of norm."""
    numbers = sorted({epoch.number for run in result.runs for epoch in run.epochs})
    return [
        Panel(
            f"epoch {number}",
            "relative norm (largest matrix: 1)",
            "share of the matrices",
            [
                histogram(getattr(epoch, kind), f"{run.name}, {word}", color, style)
                for color, run in enumerate(result.runs)
                for epoch in run.epochs
                if epoch.number == number
                for style, (kind, word) in enumerate(KINDS.items())
            ],
            x_log=True,
        )
        for number in numbers
    ]


def _curves(result: Result) -> list[Panel]:
    """Describe the panels of the losses and, for each stack, of Σ β_ii²."""
    losses = {"training": "training loss", "validation": "validation loss"}
    panels = [
        Panel(
            title,
            "update",
            "bits per token",
            [
                Line([u for u, _ in curve], [loss for _, loss in curve], run.name, color)
                for color, run in enumerate(result.runs)
                for curve in [getattr(run, name)]
                if curve
            ],
        )
        for name, title in losses.items()
    ]
    for stack in STACKS:
        lines = [
            Line([s.update for s in own], [_number(s.own) for s in own], run.name, color)
            for color, run in enumerate(result.runs)
            for own in [[share for share in run.shares if share.stack == stack]]
            if own
        ]
        panels += [Panel(stack, "update", "Σ β_ii²", lines)] if lines else []
    return panels


def _by_update(run: WatchedRun, stack: str) -> list[list[Measured]]:
    """Return the sub-layers of a stack, one list for each update; only those of the last model.

    An earlier run in the same folder may have had others.
    """
    found: dict[int, list[Measured]] = {}
    for one in run.measured:
        if one.stack == stack:
            found.setdefault(one.update, []).append(one)
    updates = list(found.values())
    return [update for update in updates if len(update) == len(updates[-1])]


def _logarithms(found: Sequence[Sequence[Measured]], quantity: str) -> list[list[float]]:
    """Return log₁₀ |quantity|, a row for each sub-layer and a column for each update.

    NaN stands where the quantity is unknown or 0.
    """
    columns = [[_number(getattr(one, quantity)) for one in update] for update in found]
    return [[math.log10(abs(x)) if x else math.nan for x in row] for row in zip(*columns)]


def _number(value: Optional[float]) -> float:
    return math.nan if value is None else value


def _read(result: Result) -> list[str]:
    """Return the findings as lines of text: per run and stack, at its last measured update."""
    return [
        f"{run.name}, {stack}, update {last[0].update}: the lowest sub-layer's gradient is "
        f"{_ratio(last[0].gradient, last[-1].gradient)} times the highest's{_scales(last)}"
        for run in result.runs
        for stack in STACKS
        for last in [(_by_update(run, stack) or [[]])[-1]]
        if last
    ]


def _ratio(one: Optional[float], other: Optional[float]) -> str:
    """Return one/other as text; ? if that is unknown."""
    return f"{one / other:.3g}" if one is not None and other else "?"


def _scales(found: Sequence[Measured]) -> str:
    """Return ω or α of the lowest and the highest sub-layer as text; "" if the scheme has none."""
    ends = [one.scale for one in (found[0], found[-1]) if one.scale is not None]
    return f", ω or α from {ends[0]:.3g} to {ends[-1]:.3g}" if ends else ""


STUDY = Study(
    help="draw what happened inside models in training with --log-dynamics: ω, gradients, updates, "
    "and the branches' share over depth and updates",
    options=Runs,
    measure=_measure,
    rows=_rows,
    draw=_draw,
    read=_read,
    pictures=["training", "training_layers", "training_epochs"],
)
