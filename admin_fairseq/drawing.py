"""Pictures of results: panels of labelled lines, as PNG and SVG.

The one module that imports matplotlib; a command imports it when a picture is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional, Sequence

import numpy as np

from admin_fairseq.errors import AdminError
from admin_fairseq.files import replacing

try:
    from matplotlib import rc_context
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure  # draws with Agg: no display, no global state
    from matplotlib.lines import Line2D
except ImportError:
    raise AdminError("pictures need matplotlib: pip install 'admin-fairseq[analysis]'") from None

ENDINGS = ("png", "svg")

# Okabe and Ito's, which the colour-blind can tell apart; yellow, faint on white, comes last
PALETTE = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7"),
    *("#E69F00", "#56B4E9", "#000000", "#F0E442"),
)
STYLES = ("-", "--", "-.", ":")
MARKERS = ("", "o", "s", "^", "D", "v")
FEW = 12  # points that are hard to see as a line alone


@dataclass
class Line:
    """A line through (x, y), with gaps where y is not finite; its label stands in the legend once.

    ``color`` and ``style`` are numbers; beyond the palette, colours come again with a marker.
    """

    x: Sequence[float]
    y: Sequence[float]
    label: str
    color: int = 0
    style: int = 0


@dataclass
class Panel:
    """Lines over the same axes. ``top`` cuts off what is higher."""

    title: str
    x_label: str
    y_label: str
    lines: list[Line] = field(default_factory=list)
    top: Optional[float] = None


def draw(panels: Sequence[Panel]) -> Figure:
    """The panels side by side over the same ranges, the legend to the right of them."""
    figure = Figure(figsize=(5 * len(panels) + 3, 4.5), layout="constrained")
    all_axes = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    handles: dict[str, Line2D] = {}
    for axes, panel in zip(all_axes, panels):
        for line in panel.lines:
            handles.setdefault(line.label, _draw_line(axes, line))
        axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
        axes.tick_params(labelleft=True)
        axes.grid(alpha=0.3)
        if panel.top is not None:
            axes.set_ylim(top=panel.top)
    if handles:
        figure.legend(
            list(handles.values()), list(handles), loc="outside right upper", frameon=False
        )
    return figure


def _draw_line(axes: Axes, line: Line) -> Line2D:
    turn, color = divmod(line.color, len(PALETTE))
    y = np.asarray(line.y, dtype=float)
    marker = MARKERS[turn % len(MARKERS)] or ("." if len(y) < FEW else "")
    (drawn,) = axes.plot(
        line.x,
        np.where(np.isfinite(y), y, np.nan),
        color=PALETTE[color],
        linestyle=STYLES[line.style % len(STYLES)],
        marker=marker,
        markersize=4,
        markevery=max(1, len(y) // FEW),
        linewidth=1.5,
    )
    return drawn


def write(figure: Figure, path: str, force: bool = False) -> None:
    """Write ``path``.png and ``path``.svg, the same bytes for the same figure."""
    for ending in ENDINGS:
        with replacing(f"{path}.{ending}", force) as file, rc_context({"svg.hashsalt": "admin"}):
            metadata = {"Date": None} if ending == "svg" else {}
            figure.savefig(file, format=ending, dpi=150, metadata=metadata)
