"""Gradients: where they vanish at the start, and what the optimiser makes of them."""

from __future__ import annotations

import re
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from admin_fairseq.analysis.bench import Specimen
from admin_fairseq.analysis.gradients import output_gradients, relative, train_steps
from admin_fairseq.analysis.studies.study import (
    Picture,
    Plan,
    Result,
    Study,
    entry,
    stacks_in,
    titles,
)
from admin_fairseq.pictures import HeatMap, Line, Panel

VANISHING = 0.1  # our threshold, the paper has none: smallest to largest norm in a stack
BINS = np.linspace(-5, 0, 26)  # of log10 of a relative norm; what is below counts in the first
NORMS = {"gradients": "gradient", "updates": "update"}


def _measure(plan: Plan) -> Result:
    models = [
        entry(subject, seed, specimen, **_gradients(specimen, plan.updates))
        for subject, seed, specimen in plan.specimens("gradients")
    ]
    return {"vanishing_below": VANISHING, "models": models}


def _gradients(specimen: Specimen, updates: int) -> dict[str, Any]:
    stacks = {
        stack: {
            "norm": norms,
            "relative_norm": relative(norms),
            "vanishes": min(relative(norms)) < VANISHING,
        }
        for stack, norms in output_gradients(specimen).items()
    }
    if not updates:
        return {"stacks": stacks, "steps": None}
    bar = partial(tqdm, desc=specimen.label, unit="update", disable=None, leave=False)
    return {"stacks": stacks, "steps": asdict(train_steps(specimen, updates, bar))}


def _rows(result: Result) -> list[dict[str, Any]]:
    """One row a sub-layer at the start, one a matrix and update during training."""
    rows = []
    for title, model in zip(titles(result["models"]), result["models"]):
        for stack, found in model["stacks"].items():
            for i, (norm, share) in enumerate(zip(found["norm"], found["relative_norm"]), 1):
                rows.append(_row(title, 0, f"{stack} sub-layer {i}", norm, share))
        for update, *norms in _updates(model):
            for name, weight, gradient, step in zip(model["steps"]["names"], *norms):
                share = gradient / (max(norms[1]) or 1)
                rows.append(_row(title, update, name, gradient, share, weight, step))
    return rows


def _row(
    title: str,
    update: int,
    place: str,
    norm: float,
    share: float,
    weight: float | str = "",
    step: float | str = "",
) -> dict[str, Any]:
    return {
        **{"model": title, "update": update, "place": place, "gradient_norm": norm},
        **{"relative_gradient_norm": share, "weight_norm": weight, "update_norm": step},
    }


def _updates(model: Result) -> list[tuple[int, list[float], list[float], list[float]]]:
    """Number of an update and the norms of weights, gradients and steps, matrix by matrix."""
    steps = model["steps"]
    if steps is None:
        return []
    norms = zip(steps["weights"], steps["gradients"], steps["updates"])
    return [(number, *of_update) for number, of_update in enumerate(norms, 1)]


def _draw(result: Result) -> dict[str, Picture]:
    pictures = {"gradients": _outputs(result)}
    if any(model["steps"] for model in result["models"]):
        pictures["histograms"] = _histograms(result)
        pictures["updates"] = _layers(result)
    return pictures


def _outputs(result: Result) -> Picture:
    named = list(zip(titles(result["models"]), result["models"]))
    stacks = stacks_in(result["models"])
    panels = [
        Panel(
            stack,
            f"{stack} sub-layer i",
            "‖∂L/∂x_i‖₂ / largest in the stack",
            [
                Line(
                    range(1, len(model["stacks"][stack]["norm"]) + 1),
                    [norm or float("nan") for norm in model["stacks"][stack]["relative_norm"]],
                    title,
                    color,
                )
                for color, (title, model) in enumerate(named)
                if stack in model["stacks"]
            ],
            y_log=True,
        )
        for stack in stacks
    ]
    caption = "Relative gradient norm of every sub-layer's output before the first update"
    return Picture(caption, panels, len(stacks))


def _histograms(result: Result) -> Picture:
    middles = 10 ** ((BINS[1:] + BINS[:-1]) / 2)
    panels = [
        Panel(
            f"{word} norms",
            f"relative {word} norm (largest matrix: 1)",
            "share of the matrices",
            [
                Line(middles, _histogram(model["steps"][key][-1]), title, color, steps=True)
                for color, (title, model) in enumerate(
                    zip(titles(result["models"]), result["models"])
                )
                if model["steps"]
            ],
            x_log=True,
        )
        for key, word in NORMS.items()
    ]
    count = max(len(model["steps"]["updates"]) for model in result["models"] if model["steps"])
    return Picture(f"Gradients and updates of all matrices at update {count}", panels, 2)


def _histogram(norms: list[float]) -> list[float]:
    logs = np.log10(np.maximum(relative(norms), 10 ** BINS[0]))
    return (np.histogram(logs, BINS)[0] / len(norms)).tolist()


def _layers(result: Result) -> Picture:
    """For each model, layers down and updates across: gradients and relative updates."""
    panels = []
    for title, model in zip(titles(result["models"]), result["models"]):
        if not model["steps"]:
            continue
        steps = model["steps"]
        weights = np.asarray(steps["weights"])
        sizes = np.asarray(steps["updates"]) / np.where(weights > 0, weights, np.nan)
        for name, values, label in (
            ("gradient", np.asarray(steps["gradients"]), "log₁₀ ‖∇w‖"),
            ("update", sizes, "log₁₀ ‖Δw‖/‖w‖"),
        ):
            by_layer = _by_layer(steps["names"], values)
            panels.append(
                HeatMap(
                    f"{title}, {name}",
                    "update",
                    "layer (encoder, then decoder)",
                    by_layer,
                    label,
                    extent=(0.5, len(values) + 0.5, len(by_layer) + 0.5, 0.5),  # both from 1
                )
            )
    caption = "Size of gradients and updates by layer over the first updates (median of matrices)"
    return Picture(caption, panels, 2)


def _by_layer(names: list[str], values: np.ndarray) -> list[list[float]]:
    """log10 of the median over a layer's matrices: layers x updates; NaN for zeros."""
    layers = [re.match(r"\w+\.layers\.\d+", name).group() for name in names]
    rows = []
    for layer in dict.fromkeys(layers):
        mine = values[:, [i for i, name in enumerate(layers) if name == layer]]
        kept = np.where(mine > 0, mine, np.nan)
        empty = np.isnan(kept).all(1)
        kept[empty] = 1
        rows.append(np.where(empty, np.nan, np.log10(np.nanmedian(kept, 1))).tolist())
    return rows


def _read(result: Result) -> list[str]:
    lines = []
    for title, model in zip(titles(result["models"]), result["models"]):
        for stack, found in model["stacks"].items():
            share = found["relative_norm"]
            verdict = "vanish" if found["vanishes"] else "do not vanish"
            lines.append(
                f"{title}, {stack}: gradients {verdict}: {share[0]:.3g} of the largest at the "
                f"bottom, {share[-1]:.3g} at the top, smallest {min(share):.3g}"
            )
        if model["steps"]:
            gradients, updates = (_span(model["steps"][key][-1]) for key in NORMS)
            lines.append(
                f"{title}: at update {len(model['steps']['updates'])} the middle 80 % of the "
                f"matrices' gradient norms span {gradients}, of their update norms {updates}"
            )
    return [*lines, f"Gradients are said to vanish where the smallest is below {VANISHING}."]


def _span(norms: list[float]) -> str:
    """The ratio of the 90th to the 10th percentile, of what is not zero."""
    some = [norm for norm in norms if norm > 0]
    if not some:
        return "nothing (all are 0)"
    low, high = np.quantile(some, [0.1, 0.9])
    zeros = len(norms) - len(some)
    return f"a factor of {high / low:.3g}" + (f" ({zeros} of {len(norms)} are 0)" if zeros else "")


STUDY = Study(
    "gradient norms layer by layer, at the start and over the first updates",
    _measure,
    _rows,
    _draw,
    _read,
    ("gradients", "histograms", "updates"),
)
