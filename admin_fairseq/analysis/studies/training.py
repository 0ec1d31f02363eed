"""Study what happened inside models while they trained, from runs with --log-dynamics.

Loss and Σ β_ii² over updates, runs side by side; for each run and stack, over depth and updates,
the residual scale (ω or α), the gradient, and the update relative to the weights.
"""

# no postponed annotations: fairseq's parser generator reads types
import math
import os
from dataclasses import dataclass
from typing import Optional, Sequence

from fairseq.dataclass import FairseqDataclass

from admin_fairseq.errors import AdminError
from admin_fairseq.repairs.run_log import DYNAMICS, NAME
from admin_fairseq.results.dynamics import Dynamics, SubLayer, read_dynamics
from admin_fairseq.results.logs import Point, read_log
from admin_fairseq.studies.options import option
from admin_fairseq.studies.pictures import HeatMap, Line, Panel, Picture
from admin_fairseq.studies.study import Row, Study

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


@dataclass(frozen=True)
class Result:
    """The result of ``admin-fairseq analyze training``."""

    runs: list[WatchedRun]


def _measure(options: Runs) -> Result:
    """Read the runs' dynamics.jsonl and train.log; raise AdminError if one cannot be read."""
    return Result([_watched(name, folder) for folder, name in _names(options.runs).items()])


def _names(folders: Sequence[str]) -> dict[str, str]:
    """Return folder → a title: its name or, if not unique, the whole path."""
    short = {folder: os.path.basename(os.path.abspath(folder)) for folder in folders}
    return short if len(set(short.values())) == len(short) else {folder: folder for folder in short}


def _watched(name: str, folder: str) -> WatchedRun:
    """Read one run."""
    dynamics = read_dynamics(os.path.join(folder, DYNAMICS))
    if not dynamics.updates:
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
    return found.update / found.weights if found.update is not None and found.weights else None


def _rows(result: Result) -> list[Row]:
    """Return the rows of the CSV file: one per run, update and sub-layer."""
    return [{"run": run.name, **vars(found)} for run in result.runs for found in run.measured]


def _draw(result: Result) -> dict[str, Picture]:
    """Describe two pictures: the curves of all runs, and the heat maps of each run's stacks."""
    maps = [
        HeatMap(
            f"{run.name}, {stack}",
            "update",
            "sub-layer i",
            _logarithms(found, quantity),
            label,
            extent=(found[0][0].update, found[-1][0].update, len(found[0]) + 0.5, 0.5),
        )
        for run in result.runs
        for stack in STACKS
        for found in [_by_update(run, stack)]
        if found
        for quantity, label in QUANTITIES.items()
    ]
    return {
        "training": Picture("Loss, and the branches' share Σ β_ii²", _curves(result), 2, False),
        "training_layers": Picture("Over depth and updates", maps, len(QUANTITIES)),
    }


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
    """Return the sub-layers of a stack, one list for each update."""
    found: dict[int, list[Measured]] = {}
    for one in run.measured:
        if one.stack == stack:
            found.setdefault(one.update, []).append(one)
    return list(found.values())


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
        f"{run.name}, {stack}, update {last[0].update}: gradient of the lowest sub-layer "
        f"{_ratio(last[0].gradient, last[-1].gradient)} of the highest's, "
        f"ω or α from {_text(last[0].scale)} to {_text(last[-1].scale)}"
        for run in result.runs
        for stack in STACKS
        for last in [(_by_update(run, stack) or [[]])[-1]]
        if last
    ]


def _ratio(one: Optional[float], other: Optional[float]) -> str:
    """Return one/other as text; ? if that is unknown."""
    return f"{one / other:.3g}" if one is not None and other else "?"


def _text(value: Optional[float]) -> str:
    return "?" if value is None else f"{value:.3g}"


STUDY = Study(
    help="draw what happened inside models in training with --log-dynamics: ω, gradients, updates, "
    "and the branches' share over depth and updates",
    options=Runs,
    measure=_measure,
    rows=_rows,
    draw=_draw,
    read=_read,
    pictures=["training", "training_layers"],
)
