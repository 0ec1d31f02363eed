"""Study layer dependency β: how much each branch contributes to each sub-layer's output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping

import torch
from fairseq.models import BaseFairseqModel

from admin_fairseq.analysis.options import Models
from admin_fairseq.analysis.studies.models import MeasuredModel, specimens, stacks_in, titles
from admin_fairseq.hooks.dependency import dependencies
from admin_fairseq.hooks.moments import real_tokens
from admin_fairseq.hooks.trace import traced
from admin_fairseq.studies.pictures import HeatMap, Picture
from admin_fairseq.studies.study import Row, Study

LABELS: dict[str, Any] = {
    "x_label": "branch j (0: the stack's input)",
    "y_label": "output of sub-layer i",
    "scale_label": "β",
}
WIDEST = 4  # heat maps in a row


@dataclass(frozen=True)
class StackDependency:
    """β in one stack: a row for its input and one for each sub-layer, each up to the diagonal.

    ``sum_of_squared_diagonal`` leaves out the row of the input.
    """

    sublayers: list[str]
    beta: list[list[float]]
    row_sums_of_squares: list[float]
    sum_of_squared_diagonal: float


@dataclass(frozen=True)
class DependencyModel(MeasuredModel):
    """A measured model, with β in each of its stacks (encoder, decoder)."""

    stacks: dict[str, StackDependency]


@dataclass(frozen=True)
class Result:
    """The result of ``admin-fairseq analyze dependency``."""

    conditions: dict[str, Any]
    models: list[DependencyModel]

    @property
    def named(self) -> list[tuple[str, DependencyModel]]:
        """Return the models, each with a title that distinguishes it."""
        return list(zip(titles(self.models), self.models))


def _measure(options: Models) -> Result:
    """Measure layer dependency β in every model; raises AdminError if a model is unsuitable."""
    models = [
        DependencyModel(**about, stacks=layer_dependency(specimen.model, specimen.batch))
        for about, specimen in specimens(options, "dependency")
    ]
    return Result(options.conditions.plain, models)


@torch.no_grad()
def layer_dependency(
    model: BaseFairseqModel, batch: Mapping[str, Any]
) -> dict[str, StackDependency]:
    """Run a transformer on a batch of fairseq's, and compute β in each of its stacks.

    The model, ours or fairseq's own, should be in eval mode and in float32. Returns stack (encoder,
    decoder) → β. Raises AdminError if a sub-layer's output is not the sum of its branches.
    """
    with traced(model) as trace:
        model(**batch["net_input"], features_only=True)
    found = {}
    for name, stack in trace.items():
        beta = dependencies(stack, real_tokens(model, name, batch))
        squares = beta.square()
        found[name] = StackDependency(
            sublayers=[
                f"{number} {sublayer.name}"
                for number, layer in enumerate(stack.layers)
                for sublayer in layer
            ],
            beta=[row[: i + 1].tolist() for i, row in enumerate(beta)],
            row_sums_of_squares=squares.sum(1).tolist(),
            sum_of_squared_diagonal=float(squares.diag()[1:].sum()),
        )
    return found


def _rows(result: Result) -> list[Row]:
    """Return the rows of the CSV file: one per model, stack, sub-layer i and branch j."""
    return [
        {"model": title, "stack": stack, "i": i, "j": j, "beta": beta}
        for title, model in result.named
        for stack, found in model.stacks.items()
        for i, row in enumerate(found.beta)
        for j, beta in enumerate(row)
    ]


def _draw(result: Result) -> dict[str, Picture]:
    """Describe the picture: a row of heat maps for each stack, with a column for each model."""
    panels = [
        HeatMap(f"{title}, {stack}", values=_square(model.stacks[stack].beta), **LABELS)
        for stack in stacks_in(result.models)
        for title, model in result.named
        if stack in model.stacks
    ]
    caption = "β: how much the branch of sub-layer j contributes to the output of sub-layer i"
    return {"dependency": Picture(caption, panels, columns=min(len(result.models), WIDEST))}


def _square(rows: list[list[float]]) -> list[list[float]]:
    """Fill up the rows of a lower triangle with NaN, which heat maps leave blank."""
    return [row + [float("nan")] * (len(rows) - len(row)) for row in rows]


def _read(result: Result) -> list[str]:
    """Return the findings as lines of text: one per model and stack, and how to read them."""
    lines = []
    for title, model in result.named:
        for stack, found in model.stacks.items():
            own = [row[-1] ** 2 for row in found.beta][1:]
            sums = found.row_sums_of_squares
            lines.append(
                f"{title}, {stack}: own branch β_ii² {own[0]:.3f} at the first sub-layer, "
                f"{own[-1]:.3f} at the last of {len(own)}, Σ β_ii² = "
                f"{found.sum_of_squared_diagonal:.2f}; rows' Σ β² {min(sums):.3f} to "
                f"{max(sums):.3f}"
            )
    return [
        *lines,
        "By Admin's Theorem 2, a small random weight change is amplified by about Σ β_ii². The "
        "squares of a row sum to 1 if branches are independent.",
    ]


STUDY = Study(
    help="measure how much each residual branch contributes to each output (β of the Admin paper)",
    options=Models,
    measure=_measure,
    rows=_rows,
    draw=_draw,
    read=_read,
    pictures=["dependency"],
)
