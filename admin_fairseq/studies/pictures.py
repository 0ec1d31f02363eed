"""What a picture shows: panels of labelled lines, heat maps, bars; ``drawing`` draws them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional, Sequence, Union

ENDINGS = ("png", "svg")
"""Of the files that a picture is drawn to."""


@dataclass
class Line:
    """A line through (x, y), with gaps where y is not finite; its label stands in the legend once.

    ``color`` and ``style`` are numbers; beyond the palette, colours come again with a marker.
    ``low`` and ``high``, given both, are the edges of a band around it. ``steps`` makes it a
    staircase with x in the middle of each step, as histograms are drawn.
    """

    x: Sequence[float]
    y: Sequence[float]
    label: str
    color: int = 0
    style: int = 0
    low: Optional[Sequence[float]] = None
    high: Optional[Sequence[float]] = None
    steps: bool = False


@dataclass
class Panel:
    """Lines over the same axes. ``top`` cuts off what is higher."""

    title: str
    x_label: str
    y_label: str
    lines: list[Line] = field(default_factory=list)
    top: Optional[float] = None
    x_log: bool = False
    y_log: bool = False


@dataclass
class HeatMap:
    """Numbers as colours, the first row on top, blank where they are not finite.

    The colours go from ``low`` to ``high``, or as far as the numbers do. ``extent`` says where the
    outer edges lie (left, right, bottom, top); without it, rows and columns count from 0.
    """

    title: str
    x_label: str
    y_label: str
    values: Sequence[Sequence[float]]
    scale_label: str
    low: Optional[float] = None
    high: Optional[float] = None
    extent: Optional[tuple[float, float, float, float]] = None


Numbers = Sequence[Optional[float]]


@dataclass(frozen=True)
class Series:
    """A bar in every group, None where there is none; ``low`` to ``high`` is its whisker."""

    label: str
    values: Numbers
    low: Optional[Numbers] = None
    high: Optional[Numbers] = None


@dataclass
class Bars:
    """Horizontal bars in groups, from top to bottom; a dashed line at ``mark``, if there is one."""

    title: str
    x_label: str
    groups: Sequence[str]
    series: Sequence[Series]
    mark: Optional[float] = None


AnyPanel = Union[Panel, HeatMap, Bars]


@dataclass(frozen=True)
class Picture:
    """Panels in a grid of ``columns``; ``share``: over the same ranges. Bars have one column."""

    caption: str
    panels: Sequence[AnyPanel]
    columns: int = 1
    share: bool = True
