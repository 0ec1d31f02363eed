"""Study amplification: how much a small weight change changes the output, against depth.

The module ``analysis.amplification`` defines and measures it.
"""

# no postponed annotations: fairseq's parser generator reads types
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

from admin_fairseq.analysis.amplification import gradient_change, output_changes, random_change
from admin_fairseq.analysis.bench import Specimen
from admin_fairseq.analysis.growth import Growth, growth
from admin_fairseq.analysis.options import ModelsByDepth
from admin_fairseq.analysis.studies.models import MeasuredModel, curve_titles, specimens, stacks_in
from admin_fairseq.bounds import SEED, Bounds, counting
from admin_fairseq.errors import AdminError
from admin_fairseq.studies.options import option
from admin_fairseq.studies.pictures import Line, Panel, Picture
from admin_fairseq.studies.study import Row, Study

CHANGE_KINDS = {"random": "random change", "gradient": "step down the gradient"}
Y_LABEL = "‖F(x₀,W*) − F(x₀,W)‖² / ‖F(x₀,W)‖²"


SIZE = Bounds(1e-12)
"""Bounds of a change's relative magnitude; smaller changes vanish in float32."""


@dataclass
class Options(ModelsByDepth):
    """The options of ``admin-fairseq analyze amplification``."""

    seeds: int = option(5, "models of each depth, with different seeds", counting(1, 1000))
    draws: int = option(3, "random changes of each model", counting(1, 1000))
    size: float = option(0.01, "magnitude of a random change, relative to each matrix", SIZE)
    gradient_size: float = option(
        0.0001, "magnitude of a step down the gradient, relative to each matrix", SIZE
    )


@dataclass(frozen=True)
class AmplifiedModel(MeasuredModel):
    """A measured model and its output changes.

    ``changes``: kind of weight change (``CHANGE_KINDS``) → stack → output change for every draw.
    """

    changes: dict[str, dict[str, list[float]]]


@dataclass(frozen=True)
class Curve:
    """Amplification of one model's stack against depth, for one kind of weight change.

    ``mean`` is geometric over seeds, ``low`` and ``high`` bound a band around it; ``growth`` holds
    the fitted laws, None if nothing could be fitted.
    """

    model: str
    kind: str
    stack: str
    layers: list[int]
    mean: list[float]
    low: list[float]
    high: list[float]
    growth: Optional[Growth]


@dataclass(frozen=True)
class Result:
    """The result of ``admin-fairseq analyze amplification``.

    ``relative_size`` is the magnitude of each kind of weight change.
    """

    conditions: dict[str, Any]
    relative_size: dict[str, float]
    models: list[AmplifiedModel]
    curves: list[Curve]


def _measure(options: Options) -> Result:
    """Measure the output changes of every model, depth and seed.

    Raises AdminError if the last seed is out of bounds, or a model cannot be measured.
    """
    last = options.conditions.seed + options.seeds - 1
    if last not in SEED:
        raise AdminError(
            f"--seed {options.conditions.seed} with --seeds {options.seeds}: every seed must be "
            f"{SEED}"
        )
    models = [
        AmplifiedModel(**about, changes=_changes(specimen, options, about["seed"]))
        for about, specimen in specimens(options, "amplification", options.seeds)
    ]
    sizes = {"random": options.size, "gradient": options.gradient_size}
    return Result(options.conditions.plain, sizes, models, _curves(models))


def _changes(specimen: Specimen, options: Options, seed: int) -> dict[str, dict[str, list[float]]]:
    """Change a model's weights, at random and down the gradient, and measure the output changes."""
    draws = [
        output_changes(specimen, random_change(specimen, options.size, seed * options.draws + draw))
        for draw in range(options.draws)
    ]
    step = output_changes(specimen, gradient_change(specimen, options.gradient_size))
    return {
        "random": {stack: [draw[stack] for draw in draws] for stack in step},
        "gradient": {stack: [change] for stack, change in step.items()},
    }


def _curves(models: list[AmplifiedModel]) -> list[Curve]:
    """Compute a curve against depth for each model, kind of weight change and stack.

    A seed's value is the mean of its draws. The mean over seeds is geometric, since one seed can
    outweigh ten others; the band is one standard deviation of the logarithms on each side.
    """
    curves = []
    for name, title in curve_titles(models).items():
        mine = [model for model in models if model.model == name]
        for kind in CHANGE_KINDS:
            for stack in mine[0].changes[kind]:
                curves.append(_curve(title, kind, stack, mine))
    return curves


def _curve(title: str, kind: str, stack: str, models: list[AmplifiedModel]) -> Curve:
    """Compute one curve from ``models``, the same model at several depths and seeds."""
    points: dict[int, list[float]] = {}
    for model in models:
        value = float(np.mean(model.changes[kind][stack]))
        points.setdefault(model.layers[stack], []).append(value)
    means, lows, highs = map(list, zip(*map(_spread, points.values())))
    return Curve(title, kind, stack, list(points), means, lows, highs, growth(list(points), means))


def _spread(values: list[float]) -> tuple[float, ...]:
    """Return the geometric mean of a value over seeds, and the ends of a band around it.

    The ends are the mean divided and multiplied by the geometric standard deviation. All three are
    0 if a value is 0.
    """
    if min(values) <= 0:  # branches that start at zero
        return 0.0, 0.0, 0.0
    logs = np.log(values)
    deviation = logs.std(ddof=1) if len(values) > 1 else 0.0
    return tuple(float(np.exp(logs.mean() + k * deviation)) for k in (0, -1, 1))


def _rows(result: Result) -> list[Row]:
    """Return the rows of the CSV file: one per model, kind of change, stack and random draw."""
    names = curve_titles(result.models)
    return [
        {
            **{"model": names[model.model], "kind": kind, "stack": stack},
            **{"layers": model.layers[stack], "seed": model.seed, "draw": draw},
            "change": change,
        }
        for model in result.models
        for kind, stacks in model.changes.items()
        for stack, changes in stacks.items()
        for draw, change in enumerate(changes, 1)
    ]


def _draw(result: Result) -> dict[str, Picture]:
    """Describe the picture: a panel per stack and kind of change, a line per model."""
    models = list(dict.fromkeys(curve.model for curve in result.curves))
    stacks = stacks_in(result.models)
    panels = [
        Panel(
            f"{stack}, {title}",
            f"{stack} layers N",
            Y_LABEL,
            [
                Line(
                    curve.layers,
                    [value or float("nan") for value in curve.mean],
                    curve.model,
                    models.index(curve.model),
                    low=curve.low,
                    high=curve.high,
                )
                for curve in result.curves
                if (curve.kind, curve.stack) == (kind, stack)
            ],
            x_log=True,
            y_log=True,
        )
        for kind, title in CHANGE_KINDS.items()
        for stack in stacks
    ]
    caption = (
        "Output change of a stack against its depth, all weights changed by the same relative "
        f"magnitude (random {result.relative_size['random']:g}, gradient "
        f"{result.relative_size['gradient']:g}); bands: one geometric standard deviation over "
        "seeds"
    )
    columns = len(stacks) if len(stacks) > 1 else len(CHANGE_KINDS)
    return {"amplification": Picture(caption, panels, columns, share=False)}


def _read(result: Result) -> list[str]:
    """Return the findings as lines of text: one per curve."""
    return [
        f"{curve.stack}, {CHANGE_KINDS[curve.kind]}, {curve.model}: {_growth(curve)}"
        for curve in result.curves
    ]


def _growth(curve: Curve) -> str:
    """Return the values at both ends of a curve, and the fitted laws, as text."""
    if not any(curve.mean):
        return "0 at every depth: the branches start at zero"
    ends = f"{curve.mean[0]:.3g} at {curve.layers[0]}L"
    if len(curve.layers) > 1:
        ends += f", {curve.mean[-1]:.3g} at {curve.layers[-1]}L"
    if curve.growth is None:
        return ends
    power, logarithmic, linear = curve.growth.power, curve.growth.logarithmic, curve.growth.linear
    return (
        f"{ends}; ∝ N^{power.slope:.2f} (R² {power.r2:.2f}); "
        f"{logarithmic.intercept:.3g} + {logarithmic.slope:.3g} log N "
        f"(R² {logarithmic.r2:.2f}); a + b N has R² {linear.r2:.2f}"
    )


STUDY = Study(
    help="measure how much a small weight change changes the output, against depth (Admin's "
    "Figure 4)",
    options=Options,
    measure=_measure,
    rows=_rows,
    draw=_draw,
    read=_read,
    pictures=["amplification"],
)
