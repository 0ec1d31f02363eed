"""Descriptions of pictures: panels of labelled lines, heat maps, bars; see ``drawing``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional, Sequence, Union

ENDINGS = ("png", "svg")
"""File formats of a picture."""


@dataclass
class Line:
    """A line through (x, y) with gaps where y is not finite; equal labels share a legend entry.

    ``color`` and ``style`` are indices; colours beyond the palette repeat it with markers. ``low``
    and ``high``, if both given, bound a band around the line. ``steps`` draws a staircase, as for
    histograms, with x in the middle of each step.
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
    """Lines in the same axes. Values above ``top`` are cut off."""

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

    Colours range from ``low`` to ``high`` (default: the values' range). ``extent`` is the position
    of the outer edges (left, right, bottom, top); by default, rows and columns count from 0.
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
    """One bar per group (None: no bar), with a whisker from ``low`` to ``high``."""

    label: str
    values: Numbers
    low: Optional[Numbers] = None
    high: Optional[Numbers] = None


@dataclass
class Bars:
    """Horizontal bars in groups, from top to bottom; ``mark`` is the place of a dashed line."""

    title: str
    x_label: str
    groups: Sequence[str]
    series: Sequence[Series]
    mark: Optional[float] = None


AnyPanel = Union[Panel, HeatMap, Bars]


@dataclass(frozen=True)
class Picture:
    """Panels in a grid of ``columns``, or bars in one; ``share``: with the same ranges."""

    caption: str
    panels: Sequence[AnyPanel]
    columns: int = 1
    share: bool = True
