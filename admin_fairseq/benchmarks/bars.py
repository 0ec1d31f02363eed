"""Numbers as horizontal bars, in groups; drawn with ``drawing``'s colours and files."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional, Sequence

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Numbers = Sequence[Optional[float]]

WIDE, ROW, AROUND = 8.0, 0.26, 1.2
"""Inches: a picture's width, the height of a bar, what title and axis take."""
FULL = 0.8  # of a group's room, filled by its bars


@dataclass(frozen=True)
class Series:
    """A bar in every group, None where there is none; ``low`` to ``high`` is its whisker."""

    label: str
    values: Numbers
    low: Optional[Numbers] = None
    high: Optional[Numbers] = None


@dataclass(frozen=True)
class Bars:
    """Groups from top to bottom; a dashed line at ``mark``, if there is one."""

    title: str
    x_label: str
    groups: Sequence[str]
    series: Sequence[Series]
    mark: Optional[float] = None


def draw(pictures: Sequence[Bars]) -> Figure:
    """One below the other."""
    from admin_fairseq import drawing  # matplotlib, which only pictures need

    heights = [AROUND + ROW * len(bars.groups) * len(bars.series) for bars in pictures]
    figure = drawing.Figure((WIDE, sum(heights)), layout="constrained")
    grid = figure.add_gridspec(len(pictures), 1, height_ratios=heights)
    for number, bars in enumerate(pictures):
        _draw(figure.add_subplot(grid[number]), bars, drawing.PALETTE)
    return figure


def _draw(axes: Axes, bars: Bars, palette: Sequence[str]) -> None:
    thick = FULL / len(bars.series)
    for number, series in enumerate(bars.series):
        places = [row - FULL / 2 + (number + 0.5) * thick for row in range(len(bars.groups))]
        lengths = [0.0 if value is None else value for value in series.values]
        color = palette[number % len(palette)]
        axes.barh(places, lengths, thick, label=series.label, color=color, xerr=_whiskers(series))
        for row, place in enumerate(places):
            axes.annotate(
                _told(series.values[row]),
                (_end(series, row), place),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize="small",
            )
    if bars.mark is not None:
        axes.axvline(bars.mark, color="black", linestyle="--", linewidth=1)
    axes.set(title=bars.title, xlabel=bars.x_label)
    axes.set_yticks(range(len(bars.groups)), bars.groups)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    if len(bars.series) > 1:
        axes.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))


def _whiskers(series: Series) -> Optional[list[list[float]]]:
    if series.low is None or series.high is None:
        return None
    ends = [
        (0.0, 0.0) if None in (value, low, high) else (value - low, high - value)
        for value, low, high in zip(series.values, series.low, series.high)
    ]
    return [[below for below, _ in ends], [above for _, above in ends]]


def _end(series: Series, row: int) -> float:
    """Where a bar and its whisker end."""
    ends = [series.values[row], series.high[row] if series.high is not None else None]
    return max((end for end in ends if end is not None), default=0.0)


def _told(value: Optional[float]) -> str:
    """Three digits, without an exponent."""
    if value is None:
        return "n/a"
    before = int(math.log10(abs(value))) + 1 if abs(value) >= 1 else 1
    return f"{value:.{max(0, 3 - before)}f}"
