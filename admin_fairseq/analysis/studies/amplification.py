"""Amplification: how the effect of a small change of the weights grows with depth."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from admin_fairseq.analysis.amplification import gradient_change, output_changes, random_change
from admin_fairseq.analysis.bench import Specimen
from admin_fairseq.analysis.growth import Growth, growth
from admin_fairseq.analysis.studies.study import (
    Picture,
    Plan,
    Result,
    Study,
    curve_titles,
    entry,
    stacks_in,
)
from admin_fairseq.pictures import Line, Panel

KINDS = {"random": "random change", "gradient": "step down the gradient"}
Y_LABEL = "‖F(x₀,W*) − F(x₀,W)‖² / ‖F(x₀,W)‖²"


def _measure(plan: Plan) -> Result:
    models = [
        entry(subject, seed, specimen, changes=_changes(specimen, plan, seed))
        for subject, seed, specimen in plan.specimens("amplification", plan.seeds)
    ]
    sizes = {"random": plan.size, "gradient": plan.gradient_size}
    return {"relative_size": sizes, "models": models, "curves": _curves(models)}


def _changes(specimen: Specimen, plan: Plan, seed: int) -> dict[str, dict[str, list[float]]]:
    """Kind → stack → the change of its output for every draw."""
    draws = [
        output_changes(specimen, random_change(specimen, plan.size, seed * plan.draws + draw))
        for draw in range(plan.draws)
    ]
    step = output_changes(specimen, gradient_change(specimen, plan.gradient_size))
    return {
        "random": {stack: [draw[stack] for draw in draws] for stack in step},
        "gradient": {stack: [change] for stack, change in step.items()},
    }


def _curves(models: list[Result]) -> list[dict[str, Any]]:
    """For each subject, kind and stack: mean and spread over seeds at each depth, and the growth.

    A seed's value is the mean of its draws; the mean over seeds is geometric, since one seed may
    be worth ten others, and the band is one standard deviation of the logarithms to each side.
    """
    curves = []
    for subject, title in curve_titles(models).items():
        mine = [model for model in models if model["model"] == subject]
        for kind in KINDS:
            for stack in mine[0]["changes"][kind]:
                points: dict[int, list[float]] = {}
                for model in mine:
                    value = float(np.mean(model["changes"][kind][stack]))
                    points.setdefault(model["layers"][stack], []).append(value)
                means, lows, highs = zip(*map(_spread, points.values()))
                fits = growth(list(points), means)
                curves.append(
                    {
                        **{"model": title, "kind": kind, "stack": stack},
                        **{"layers": list(points), "mean": means, "low": lows, "high": highs},
                        "growth": fits and asdict(fits),
                    }
                )
    return curves


def _spread(values: list[float]) -> tuple[float, float, float]:
    """Geometric mean, and it divided and multiplied by the geometric standard deviation."""
    if min(values) <= 0:  # branches that start at zero
        return 0.0, 0.0, 0.0
    logs = np.log(values)
    deviation = logs.std(ddof=1) if len(values) > 1 else 0.0
    return tuple(float(np.exp(logs.mean() + k * deviation)) for k in (0, -1, 1))


def _rows(result: Result) -> list[dict[str, Any]]:
    names = curve_titles(result["models"])
    return [
        {
            **{"model": names[model["model"]], "kind": kind, "stack": stack},
            **{"layers": model["layers"][stack], "seed": model["seed"], "draw": draw},
            "change": change,
        }
        for model in result["models"]
        for kind, stacks in model["changes"].items()
        for stack, changes in stacks.items()
        for draw, change in enumerate(changes, 1)
    ]


def _draw(result: Result) -> dict[str, Picture]:
    models = list(dict.fromkeys(curve["model"] for curve in result["curves"]))
    stacks = stacks_in(result["models"])
    panels = [
        Panel(
            f"{stack}, {title}",
            f"{stack} layers N",
            Y_LABEL,
            [
                Line(
                    curve["layers"],
                    [value or float("nan") for value in curve["mean"]],
                    curve["model"],
                    models.index(curve["model"]),
                    low=curve["low"],
                    high=curve["high"],
                )
                for curve in result["curves"]
                if (curve["kind"], curve["stack"]) == (kind, stack)
            ],
            x_log=True,
            y_log=True,
        )
        for kind, title in KINDS.items()
        for stack in stacks
    ]
    caption = (
        "Output change of a stack against its depth, all weights changed by the same relative size "
        f"(random {result['relative_size']['random']:g}, gradient "
        f"{result['relative_size']['gradient']:g}); bands: one geometric standard deviation over "
        "seeds"
    )
    columns = len(stacks) if len(stacks) > 1 else len(KINDS)
    return {"amplification": Picture(caption, panels, columns, share=False)}


def _read(result: Result) -> list[str]:
    return [
        f"{curve['stack']}, {KINDS[curve['kind']]}, {curve['model']}: {_growth(curve)}"
        for curve in result["curves"]
    ]


def _growth(curve: dict[str, Any]) -> str:
    if not any(curve["mean"]):
        return "0 at every depth: the branches start at zero"
    ends = f"{curve['mean'][0]:.3g} at {curve['layers'][0]}L"
    if len(curve["layers"]) > 1:
        ends += f", {curve['mean'][-1]:.3g} at {curve['layers'][-1]}L"
    if curve["growth"] is None:
        return ends
    power, logarithmic, linear = (curve["growth"][law] for law in Growth.__dataclass_fields__)
    return (
        f"{ends}; ∝ N^{power['slope']:.2f} (R² {power['r2']:.2f}); "
        f"{logarithmic['intercept']:.3g} + {logarithmic['slope']:.3g} log N "
        f"(R² {logarithmic['r2']:.2f}); a + b N has R² {linear['r2']:.2f}"
    )


STUDY = Study(
    "how a small change of the weights changes the output, against depth (Admin's Figure 4)",
    _measure,
    _rows,
    _draw,
    _read,
    ("amplification",),
)
