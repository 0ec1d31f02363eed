"""Describe pictures as data: panels of labelled lines, heat maps and bars.

The module ``drawing`` draws them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional, Sequence, Union

ENDINGS = ("png", "svg")
"""The formats of a picture, which are also the extensions of its files."""


@dataclass
class Line:
    """A labelled line through (x, y) with gaps where y is not finite.

    Lines of equal label share a legend entry. ``color`` and ``style`` are indices of palette and
    line styles; colours beyond the palette repeat it with markers. ``low`` and ``high``, if both
    given, bound a band around the line. ``steps`` draws a staircase, as for histograms, with x in
    the middle of each step.
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
    """A pair of axes with lines in it; what lies above ``top`` is cut off."""

    title: str
    x_label: str
    y_label: str
    lines: list[Line] = field(default_factory=list)
    top: Optional[float] = None
    x_log: bool = False
    y_log: bool = False


@dataclass
class HeatMap:
    """A matrix drawn as colours, its first row on top, blank where numbers are not finite.

    Colours range from ``low`` to ``high`` (default: the range of ``values``). ``extent`` is the
    position of the outer edges (left, right, bottom, top); by default, rows and columns count from
    0. ``columns`` are the edges of all columns, if they differ in width.
    """

    title: str
    x_label: str
    y_label: str
    values: Sequence[Sequence[float]]
    scale_label: str
    low: Optional[float] = None
    high: Optional[float] = None
    extent: Optional[tuple[float, float, float, float]] = None
    columns: Optional[Sequence[float]] = None


Numbers = Sequence[Optional[float]]


@dataclass(frozen=True)
class Series:
    """Bars of one label and colour, one bar in each group of a chart (None: no bar).

    Whiskers reach from ``low`` to ``high``.
    """

    label: str
    values: Numbers
    low: Optional[Numbers] = None
    high: Optional[Numbers] = None


@dataclass
class Bars:
    """A chart of horizontal bars in groups, from top to bottom.

    ``mark`` is the x of a dashed vertical line.
    """

    title: str
    x_label: str
    groups: Sequence[str]
    series: Sequence[Series]
    mark: Optional[float] = None


AnyPanel = Union[Panel, HeatMap, Bars]


@dataclass(frozen=True)
class Picture:
    """One picture file: panels in a grid of ``columns``, or charts of bars one below the other.

    With ``share``, panels of lines have the same x and y ranges, and heat maps the same colours.
    """

    caption: str
    panels: Sequence[AnyPanel]
    columns: int = 1
    share: bool = True
