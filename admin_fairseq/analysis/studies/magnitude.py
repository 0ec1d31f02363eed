"""Study magnitudes: how large activations are, and how layer norm changes gradients there.

The backward pass of layer norm multiplies the gradient by a matrix of norm O(√d/‖x‖), where x is
its input (Xiong et al. 2020, https://arxiv.org/abs/2002.04745, Lemma 3). Adam's first updates are
as large as the learning rate whatever the gradients are. Without warm-up they make x large, so that
gradients vanish towards lower layers (Huang et al. 2020, T-Fixup, section 3, and slides 6 to 10 of
their talk). Without layer norm, x stays bounded only if it starts small, as in T-Fixup.

x here is a sub-layer's sum x_{i−1}·ω_i + f_i(x_{i−1}), which Post-LN normalises; ω_i is Admin's
residual scale. Shapes: N tokens that are not padding, d channels.
"""

# no postponed annotations: fairseq's parser generator reads types
import copy
import math
from dataclasses import dataclass, replace
from typing import Any, Optional, Sequence

import torch
from torch import Tensor

from admin_fairseq.analysis.bench import Specimen
from admin_fairseq.analysis.gradients import train_steps
from admin_fairseq.analysis.options import Models
from admin_fairseq.analysis.studies.gradients import training_updates
from admin_fairseq.analysis.studies.models import MeasuredModel, specimens, stacks_in, titles
from admin_fairseq.checkpoints import building
from admin_fairseq.errors import AdminError
from admin_fairseq.hooks.trace import layers_of, stacks_of, traced
from admin_fairseq.layers.transformer_layer import TransformerLayer
from admin_fairseq.schemes import Norm
from admin_fairseq.studies.options import repeated
from admin_fairseq.studies.pictures import Line, Panel, Picture
from admin_fairseq.studies.study import Row, Study

ARCHS = ("postln_transformer_tiny", "tfixup_transformer_tiny")
QUANTITIES = {"std": "standard deviation of x_i", "factor": "√d / ‖x_i‖₂, mean of the tokens"}


@dataclass
class Options(Models):
    """The options of ``admin-fairseq analyze magnitude``."""

    arch: Sequence[str] = repeated(
        (),
        "an architecture, ours or fairseq's, measured at its initialisation (may be repeated; "
        f"default, without --path: {', '.join(ARCHS)}); Post-LN is also measured without its "
        "layer norms",
        metavar="ARCH",
    )
    updates: int = training_updates()

    @property
    def archs(self) -> Sequence[str]:
        """Return the architectures to measure: the values of ``--arch``, or default ones."""
        return self.arch or (() if self.path else ARCHS)


@dataclass(frozen=True)
class Magnitudes:
    """Magnitudes of the sums x_i of a stack's sub-layers, from bottom to top.

    ``std`` is the standard deviation of x_i, ``factor`` the mean of √d / ‖x_i‖₂ over tokens.
    """

    std: list[float]
    factor: list[float]


@dataclass(frozen=True)
class MagnitudeModel(MeasuredModel):
    """A measured model: stack → magnitudes at the start and after the updates.

    ``error`` says why those after the updates are missing, if training failed.
    """

    start: dict[str, Magnitudes]
    updated: Optional[dict[str, Magnitudes]]
    error: Optional[str]


@dataclass(frozen=True)
class Result:
    """The result of ``admin-fairseq analyze magnitude``."""

    conditions: dict[str, Any]
    updates: int
    models: list[MagnitudeModel]

    @property
    def measured(self) -> list[tuple[str, int, int, dict[str, Magnitudes]]]:
        """Return title, index, updates and magnitudes of every model, before and after training."""
        return [
            (title, i, updates, stacks)
            for i, (title, model) in enumerate(zip(titles(self.models), self.models))
            for updates, stacks in ((0, model.start), (self.updates, model.updated))
            if stacks is not None
        ]


def _measure(options: Options) -> Result:
    """Measure every model, and Post-LN also without its layer norms, before and after training.

    Raises AdminError if a model cannot be measured.
    """
    models = [
        MagnitudeModel(
            **{**about, "label": variant.label}, **_before_and_after(variant, options.updates)
        )
        for about, specimen in specimens(options, "magnitude")
        for variant in _variants(specimen)
    ]
    return Result(options.conditions.plain, options.updates, models)


def _variants(specimen: Specimen) -> list[Specimen]:
    """Return the model and, if it is our Post-LN, a copy without layer norms after the sums."""
    bare = copy.deepcopy(specimen.model)
    layers = [layer for stack in stacks_of(bare).values() for layer in layers_of(stack)]
    ours = [
        layer
        for layer in layers
        if isinstance(layer, TransformerLayer) and set(layer.norms.values()) == {Norm.POST}
    ]
    connected = any(hasattr(stack, "connections") for stack in stacks_of(bare).values())
    if connected or len(ours) < len(layers):
        return [specimen]
    for layer in ours:
        layer.norms = dict.fromkeys(layer.norms, Norm.NONE)
    return [specimen, replace(specimen, model=bare, label=f"{specimen.label} without layer norm")]


def _before_and_after(specimen: Specimen, updates: int) -> dict[str, Any]:
    """Measure magnitudes, train the model in place for ``updates``, and measure them again."""
    found: dict[str, Any] = {"start": _magnitudes(specimen), "updated": None, "error": None}
    if updates:
        try:
            train_steps(specimen, updates)
        except AdminError as error:
            return {**found, "error": error.message}
        building.for_inference(specimen.model)
        found["updated"] = _magnitudes(specimen)
    return found


@torch.no_grad()
def _magnitudes(specimen: Specimen) -> dict[str, Magnitudes]:
    """Run the model on its batch, and measure the sums of its sub-layers, by stack."""
    with traced(specimen.model) as trace:
        specimen.model(**specimen.batch["net_input"], features_only=True)
    found = {}
    for name, stack in trace.items():
        sums = [s.summed[specimen.real(name)].double() for s in stack.sublayers]
        found[name] = Magnitudes([float(x.std()) for x in sums], [_factor(x) for x in sums])
    return found


def _factor(x: Tensor) -> float:
    """Return the mean of √d / ‖x‖₂ over the tokens; x: N x d."""
    return float((math.sqrt(x.shape[1]) / x.norm(dim=1)).mean())


def _rows(result: Result) -> list[Row]:
    """Return the rows of the CSV file: one per model, number of updates, stack and sub-layer."""
    return [
        {"model": title, "updates": updates, "stack": stack, "i": i, "std": std, "factor": factor}
        for title, _, updates, stacks in result.measured
        for stack, found in stacks.items()
        for i, (std, factor) in enumerate(zip(found.std, found.factor), 1)
    ]


def _draw(result: Result) -> dict[str, Picture]:
    """Describe the picture: a row of panels for each quantity, with a column for each stack.

    Lines are dashed after the updates.
    """
    stacks = stacks_in(result.models)
    panels = [
        Panel(
            stack,
            f"{stack} sub-layer i",
            label,
            [
                Line(
                    range(1, len(found[stack].std) + 1),
                    getattr(found[stack], quantity),
                    title + (f", {updates} updates" if updates else ""),
                    color,
                    style=int(updates > 0),
                )
                for title, color, updates, found in result.measured
                if stack in found
            ],
            y_log=True,
        )
        for quantity, label in QUANTITIES.items()
        for stack in stacks
    ]
    caption = "Magnitude of x_i, and the factor of a layer norm's backward pass there, by depth"
    return {"magnitude": Picture(caption, panels, len(stacks), share=False)}


def _read(result: Result) -> list[str]:
    """Return findings as lines of text, for each model and stack before and after training."""
    lines = [
        f"{title}, {stack}, {'start' if not updates else f'after {updates} updates'}: std of x_i "
        f"{found.std[0]:.3g} at the first sub-layer, {found.std[-1]:.3g} at the last of "
        f"{len(found.std)}; √d/‖x_i‖ {found.factor[0]:.3g} and {found.factor[-1]:.3g}"
        for title, _, updates, stacks in result.measured
        for stack, found in stacks.items()
    ]
    return [*lines, *(model.error for model in result.models if model.error)]


STUDY = Study(
    help="measure how large activations are by depth, with and without layer norm, at the start "
    "and after the first updates, and the factor √d/‖x‖ of a layer norm's backward pass "
    "(T-Fixup's talk)",
    options=Options,
    measure=_measure,
    rows=_rows,
    draw=_draw,
    read=_read,
    pictures=["magnitude"],
)
