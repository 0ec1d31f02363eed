"""Study gradients: where they vanish at the start, and the updates that the optimiser makes."""

# no postponed annotations: fairseq's parser generator reads types
from dataclasses import dataclass
from functools import partial
from typing import Any, Iterator, Optional, Sequence

import numpy as np
from tqdm import tqdm

from admin_fairseq.analysis.bench import Specimen
from admin_fairseq.analysis.gradients import Steps, output_gradients, relative, train_steps
from admin_fairseq.analysis.options import Models
from admin_fairseq.analysis.studies.models import MeasuredModel, specimens, stacks_in, titles
from admin_fairseq.bounds import counting
from admin_fairseq.studies.options import option
from admin_fairseq.studies.pictures import HeatMap, Line, Panel, Picture
from admin_fairseq.studies.study import Row, Study

VANISHING = 0.1  # smallest/largest norm in a stack; our threshold, as the paper has none
BINS = np.linspace(-5, 0, 26)  # of log10 of relative norms; smaller ones fall into the first bin
QUANTITIES = {"gradients": "gradient", "updates": "update"}


def training_updates() -> Any:
    """Declare the option for the number of updates to train."""
    return option(
        10,
        "then train for this many updates (Adam, lr 5e-4 without warm-up, or the options after --) "
        "and measure gradients and updates; 0: do not train",
        counting(0, 100_000),
    )


@dataclass
class Options(Models):
    """The options of ``admin-fairseq analyze gradients``."""

    updates: int = training_updates()


@dataclass(frozen=True)
class StackGradients:
    """‖∂L/∂x_i‖₂ for the outputs x_i of a stack's sub-layers, from the bottom to the top.

    ``relative_norm`` is relative to the largest; ``vanishes``: whether any is below ``VANISHING``.
    """

    norm: list[float]
    relative_norm: list[float]
    vanishes: bool


@dataclass(frozen=True)
class GradientsModel(MeasuredModel):
    """A measured model; ``steps`` are norms during training, None without training."""

    stacks: dict[str, StackGradients]
    steps: Optional[Steps]


@dataclass(frozen=True)
class Result:
    """The result of ``admin-fairseq analyze gradients``."""

    conditions: dict[str, Any]
    vanishing_below: float
    models: list[GradientsModel]

    @property
    def named(self) -> list[tuple[str, GradientsModel]]:
        """Return the models, each with a title that distinguishes it."""
        return list(zip(titles(self.models), self.models))

    @property
    def trained(self) -> list[tuple[int, str, Steps]]:
        """Return index, title and norms (recorded in training) of each model that was trained."""
        return [(i, t, m.steps) for i, (t, m) in enumerate(self.named) if m.steps is not None]


def _measure(options: Options) -> Result:
    """Measure gradients of every model at the start and, unless ``--updates 0``, in training.

    Raises AdminError if a model cannot be measured or trained.
    """
    models = [
        GradientsModel(**about, stacks=_stacks(specimen), steps=_steps(specimen, options.updates))
        for about, specimen in specimens(options, "gradients")
    ]
    return Result(options.conditions.plain, VANISHING, models)


def _stacks(specimen: Specimen) -> dict[str, StackGradients]:
    """Measure the gradients in every stack of a model before training."""
    return {
        stack: StackGradients(norms, relative(norms), min(relative(norms)) < VANISHING)
        for stack, norms in output_gradients(specimen).items()
    }


def _steps(specimen: Specimen, updates: int) -> Optional[Steps]:
    """Train a model with a progress bar, and return the recorded norms; None for 0 updates."""
    bar = partial(tqdm, desc=specimen.label, unit="update", disable=None, leave=False)
    return train_steps(specimen, updates, bar) if updates else None


def _rows(result: Result) -> list[Row]:
    """Return the rows of the CSV file: per sub-layer at the start, per matrix and update later."""
    return [
        row
        for title, model in result.named
        for row in (*_start(title, model), *_later(title, model))
    ]


def _start(title: str, model: GradientsModel) -> Iterator[Row]:
    """Yield the rows of one model before training: one per sub-layer."""
    for stack, found in model.stacks.items():
        for i, (norm, share) in enumerate(zip(found.norm, found.relative_norm), 1):
            yield _row(title, 0, f"{stack} sub-layer {i}", norm, share)


def _later(title: str, model: GradientsModel) -> Iterator[Row]:
    """Yield the rows of one model during training: one per matrix and update."""
    if model.steps is None:
        return
    steps = model.steps
    for update, norms in enumerate(zip(steps.weights, steps.gradients, steps.updates), 1):
        for name, weight, gradient, step in zip(steps.names, *norms):
            share = gradient / (max(norms[1]) or 1)
            yield _row(title, update, name, gradient, share, weight, step)


def _row(
    title: str,
    update: int,
    place: str,
    norm: float,
    share: float,
    weight: Any = "",
    step: Any = "",
) -> Row:
    """Build a row of the CSV file.

    ``place`` is a sub-layer or a matrix, ``norm`` that of its gradient, ``share`` the same relative
    to the largest; ``weight`` and ``step`` are the norms of a matrix and of its update.
    """
    return {
        **{"model": title, "update": update, "place": place, "gradient_norm": norm},
        **{"relative_gradient_norm": share, "weight_norm": weight, "update_norm": step},
    }


def _draw(result: Result) -> dict[str, Picture]:
    """Describe the pictures: gradients at the start, then those of training if there was any."""
    pictures = {"gradients": _outputs(result)}
    if result.trained:
        pictures["histograms"] = _histograms(result)
        pictures["updates"] = _layers(result)
    return pictures


def _outputs(result: Result) -> Picture:
    """Describe the picture of gradients at initialisation: a panel per stack, a line per model."""
    stacks = stacks_in(result.models)
    panels = [
        Panel(
            stack,
            f"{stack} sub-layer i",
            "‖∂L/∂x_i‖₂ / largest in the stack",
            [
                Line(
                    range(1, len(model.stacks[stack].norm) + 1),
                    [norm or float("nan") for norm in model.stacks[stack].relative_norm],
                    title,
                    color,
                )
                for color, (title, model) in enumerate(result.named)
                if stack in model.stacks
            ],
            y_log=True,
        )
        for stack in stacks
    ]
    caption = "Relative gradient norm of every sub-layer's output before the first update"
    return Picture(caption, panels, len(stacks))


def _histograms(result: Result) -> Picture:
    """Describe histograms of the norms of gradients and updates at the last update."""
    panels = [
        Panel(
            f"{word} norms",
            f"relative {word} norm (largest matrix: 1)",
            "share of the matrices",
            [
                histogram(getattr(steps, key)[-1], title, color)
                for color, title, steps in result.trained
            ],
            x_log=True,
        )
        for key, word in QUANTITIES.items()
    ]
    count = max(len(steps.updates) for _, _, steps in result.trained)
    return Picture(f"Gradients and updates of all matrices at update {count}", panels, 2)


def histogram(norms: Sequence[float], label: str, color: int, style: int = 0) -> Line:
    """Divide the norms by the largest, and draw the share that falls into each of ``BINS``."""
    logs = np.log10(np.maximum(relative(norms), 10 ** BINS[0]))
    shares = (np.histogram(logs, BINS)[0] / len(norms)).tolist()
    middles = (10 ** ((BINS[1:] + BINS[:-1]) / 2)).tolist()
    return Line(middles, shares, label, color, style, steps=True)


def _layers(result: Result) -> Picture:
    """Describe two heat maps (layers by updates) per model: gradients, and updates.

    Updates are relative to the norms of the weights.
    """
    panels = []
    for _, title, steps in result.trained:
        weights = np.asarray(steps.weights)
        sizes = np.asarray(steps.updates) / np.where(weights > 0, weights, np.nan)
        for name, values, label in (
            ("gradient", np.asarray(steps.gradients), "log₁₀ ‖∇w‖"),
            ("update", sizes, "log₁₀ ‖Δw‖/‖w‖"),
        ):
            by_layer = _by_layer(steps.names, values)
            panels.append(
                HeatMap(
                    f"{title}, {name}",
                    "update",
                    "layer (encoder, then decoder)",
                    by_layer,
                    label,
                    extent=(0.5, len(values) + 0.5, len(by_layer) + 0.5, 0.5),  # both count from 1
                )
            )
    caption = "Norms of gradients and updates by layer over the first updates (median of matrices)"
    return Picture(caption, panels, 2)


def _by_layer(names: list[str], values: np.ndarray) -> list[list[float]]:
    """Return log10 of the median over each layer's matrices: layers x updates; NaN for zeros.

    ``values`` are updates x matrices, ``names`` those of the matrices.
    """
    layers = [".".join(name.split(".")[:3]) for name in names]  # encoder.layers.0
    rows = []
    for layer in dict.fromkeys(layers):
        mine = values[:, [i for i, name in enumerate(layers) if name == layer]]
        kept = np.where(mine > 0, mine, np.nan)
        empty = np.isnan(kept).all(1)
        kept[empty] = 1
        rows.append(np.where(empty, np.nan, np.log10(np.nanmedian(kept, 1))).tolist())
    return rows


def _read(result: Result) -> list[str]:
    """Return the findings as lines of text: whether gradients vanish, and how norms spread."""
    lines = []
    for title, model in result.named:
        for stack, found in model.stacks.items():
            share = found.relative_norm
            verdict = "vanish" if found.vanishes else "do not vanish"
            lines.append(
                f"{title}, {stack}: gradients {verdict}: {share[0]:.3g} of the largest at the "
                f"bottom, {share[-1]:.3g} at the top, smallest {min(share):.3g}"
            )
        if model.steps is not None:
            gradients, updates = (_span(getattr(model.steps, key)[-1]) for key in QUANTITIES)
            lines.append(
                f"{title}: at update {len(model.steps.updates)} the middle 80 % of the "
                f"matrices' gradient norms span {gradients}, of their update norms {updates}"
            )
    return [*lines, f"Gradients are said to vanish if the smallest is below {VANISHING}."]


def _span(norms: Sequence[float]) -> str:
    """Return, as text, the ratio of the 90th to the 10th percentile of the norms above zero."""
    some = [norm for norm in norms if norm > 0]
    if not some:
        return "nothing (all are 0)"
    low, high = np.quantile(some, [0.1, 0.9])
    zeros = len(norms) - len(some)
    return f"a factor of {high / low:.3g}" + (f" ({zeros} of {len(norms)} are 0)" if zeros else "")


STUDY = Study(
    help="measure gradient norms layer by layer, at the start and over the first updates",
    options=Options,
    measure=_measure,
    rows=_rows,
    draw=_draw,
    read=_read,
    pictures=["gradients", "histograms", "updates"],
)
