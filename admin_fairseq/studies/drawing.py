"""Draw the pictures that ``pictures`` describes, as PNG and SVG.

This is the one module that imports matplotlib; commands import it only when they draw.
"""

from __future__ import annotations

import math
import textwrap
from io import BytesIO
from itertools import groupby
from typing import Any, Hashable, Optional, Sequence, Union

import numpy as np

from admin_fairseq.errors import AdminError, printable, shortened
from admin_fairseq.studies.pictures import ENDINGS, AnyPanel, Bars, HeatMap, Line, Panel, Series

try:
    from matplotlib import rc_context
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure  # draws with Agg: no display, no global state
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.legend import Legend
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator
except ImportError:
    raise AdminError("pictures need matplotlib: pip install matplotlib") from None

Framed = Union[Panel, HeatMap]
"""A panel with x and y axes, which is placed in a grid; bars are not."""

# Okabe and Ito's palette for the colour-blind; yellow, faint on white, comes last
PALETTE = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7"),
    *("#E69F00", "#56B4E9", "#000000", "#F0E442"),
)
STYLES = ("-", "--", "-.", ":")
MARKERS = ("", "o", "s", "^", "D", "v")
FEW = 12  # fewer points are hard to see as a line alone
HEAT = "cividis"  # perceptually uniform, for the colour-blind too

WIDE, NARROW, FULL = 5.0, 3.2, 15.0
"""Inches: the largest and the smallest width of a panel, and the width of a row of many."""
HEIGHT = 0.9  # of a panel, in widths of it
SPACE = 0.1  # inches around everything
TITLE, LABEL = 9, 11  # characters per inch
LEGEND = 40  # characters in a line of the legend
LONGEST = 300  # characters of any text
LARGEST = 1e100  # matplotlib cannot place ticks beyond it
BARS_WIDE, BAR, AROUND_BARS = 8.0, 0.26, 1.2
"""Inches: the width of a picture of bars, the height of a bar, and of title and axis."""
FULL_GROUP = 0.8  # the share of a group's height that its bars fill
ENDS = {
    (False, False): "neither",
    (True, False): "min",
    (False, True): "max",
    (True, True): "both",
}
"""(any value below the colour bar's range, any above it) → which of its ends are pointed."""


def draw(panels: Sequence[AnyPanel], columns: Optional[int] = None, share: bool = True) -> Figure:
    """Draw panels in a grid with one legend on the right, or charts of bars in one column.

    ``columns`` is the width of the grid (default: all in one row). With ``share``, panels of lines
    have the same ranges (logarithmic and linear ones separately), and heat maps of the same scale
    (label, low and high) have the same colours, with one colour bar per row. Bars cannot be
    combined with other panels.
    """
    bars = [panel for panel in panels if isinstance(panel, Bars)]
    if bars:
        return _draw_bars(bars)
    return _draw_grid([p for p in panels if not isinstance(p, Bars)], columns, share)


def _draw_grid(panels: Sequence[Framed], columns: Optional[int], share: bool) -> Figure:
    """Draw panels of lines and heat maps in a grid, row by row; see ``draw``."""
    columns = columns or len(panels)
    rows = math.ceil(len(panels) / columns)
    width = min(WIDE, max(NARROW, FULL / columns))
    layout = ConstrainedLayoutEngine(w_pad=SPACE, h_pad=SPACE)
    figure = Figure((columns * width, rows * width * HEIGHT), layout=layout)
    placed = list(zip(_place(figure, panels, rows, columns, share), panels))
    for axes, panel in placed:
        _write_labels(axes, panel, width)
    _draw_heat_maps([(axes, panel) for axes, panel in placed if isinstance(panel, HeatMap)], share)
    handles = _draw_panels([(axes, panel) for axes, panel in placed if isinstance(panel, Panel)])
    if handles:
        _add_legend(figure, handles)
    return figure


def _place(
    figure: Figure, panels: Sequence[Framed], rows: int, columns: int, share: bool
) -> list[Axes]:
    """Add empty axes for all panels to the figure, row by row.

    With ``share``, panels of lines have the same ranges, logarithmic and linear ones separately.
    """
    grid = figure.add_gridspec(rows, columns)
    first: dict[tuple[bool, bool], Axes] = {}  # per combination of logarithmic axes
    placed = []
    for number, panel in enumerate(panels):
        if isinstance(panel, HeatMap):
            placed.append(figure.add_subplot(grid[number]))
            continue
        logs = (panel.x_log, panel.y_log)
        other = first.get(logs) if share else None
        axes = figure.add_subplot(grid[number], sharex=other, sharey=other)
        axes.set(**{f"{name}scale": "log" for name, log in zip("xy", logs) if log})
        first.setdefault(logs, axes)
        placed.append(axes)
    return placed


def _write_labels(axes: Axes, panel: Framed, width: float) -> None:
    """Write title and labels of a panel, wrapped to its ``width`` in inches."""
    axes.set(
        title=_wrapped(panel.title, width * TITLE),
        xlabel=_wrapped(panel.x_label, width * LABEL),
        ylabel=_wrapped(panel.y_label, width * HEIGHT * LABEL),
    )


def _wrapped(text: str, letters: float) -> str:
    """Wrap ``text`` to lines of ``letters`` characters; escape dollars, which begin formulas."""
    lines = textwrap.fill(printable(shortened(text, LONGEST)), int(letters), break_on_hyphens=False)
    return lines.replace("$", r"\$")


def _draw_panels(placed: Sequence[tuple[Axes, Panel]]) -> dict[str, Line2D]:
    """Draw the lines of all panels; returns the legend's labels and their handles."""
    handles: dict[str, Line2D] = {}
    for axes, panel in placed:
        for line in panel.lines:
            handles.setdefault(line.label, _draw_line(axes, line))
        _mark_whole_numbers(axes, panel)
        axes.grid(alpha=0.3)
    for axes, panel in placed:  # after all lines are drawn: panels may share their ranges
        if panel.top is not None:
            _cut(axes, panel.top)
    return handles


def _mark_whole_numbers(axes: Axes, panel: Panel) -> None:
    """Place ticks on whole numbers if all x (layers, updates) are whole.

    On a logarithmic axis with only a few x, label these instead of powers of ten.
    """
    places = sorted({x for line in panel.lines for x in line.x})
    if not all(float(x).is_integer() for x in places):
        return
    if not panel.x_log:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    elif len(places) <= FEW:
        axes.set_xticks(places, [str(int(x)) for x in places])
        axes.set_xticks([], minor=True)


def _draw_line(axes: Axes, line: Line) -> Line2D:
    """Draw a line and, if it has one, its band; returns the legend's handle."""
    turn, number = divmod(line.color, len(PALETTE))
    color = PALETTE[number]
    x, y = list(line.x), _numbers(line.y)
    dots = "." if len(y) < FEW and not line.steps else ""
    if line.steps and len(x) > 1:  # else the outer steps would be half as wide
        width = x[1] - x[0]
        x, y = [x[0] - width, *x, x[-1] + width], np.concatenate(([0.0], y, [0.0]))
    (drawn,) = axes.plot(
        x,
        y,
        color=color,
        linestyle=STYLES[line.style % len(STYLES)],
        drawstyle="steps-mid" if line.steps else "default",
        marker=MARKERS[turn % len(MARKERS)] or dots,
        markersize=4,
        markevery=max(1, len(y) // FEW),
        linewidth=1.5,
    )
    if line.low is not None and line.high is not None:
        axes.fill_between(
            line.x,
            _numbers(line.low),
            _numbers(line.high),
            step="mid" if line.steps else None,
            color=color,
            alpha=0.2,
            linewidth=0,
        )
    return drawn


def _cut(axes: Axes, top: float) -> None:
    """End the y axis at ``top``, and leave a margin at the bottom relative to the visible part."""
    axes.autoscale(axis="y", tight=True)
    bottom, _ = axes.get_ylim()
    margin = 0 if axes.get_yscale() == "log" else 0.05 * (top - bottom)
    axes.set_ylim(bottom - margin, top)


def _draw_heat_maps(placed: Sequence[tuple[Axes, HeatMap]], share: bool) -> None:
    """Draw all heat maps; with ``share``, those of the same scale in the same colours."""
    scales: dict[Hashable, list[tuple[Axes, HeatMap]]] = {}
    for number, (axes, heat_map) in enumerate(placed):
        scale = (heat_map.scale_label, heat_map.low, heat_map.high)
        scales.setdefault(scale if share else number, []).append((axes, heat_map))
    for alike in scales.values():
        _draw_scale(alike)


def _draw_scale(placed: Sequence[tuple[Axes, HeatMap]]) -> None:
    """Draw heat maps that share a colour scale, with a colour bar to the right of each row."""
    some = placed[0][1]
    numbers = np.concatenate([_numbers(heat_map.values).ravel() for _, heat_map in placed])
    numbers = numbers[np.isfinite(numbers)]
    scale = Normalize(some.low, some.high)
    scale.autoscale_None(numbers if len(numbers) else [0, 1])
    beyond = (bool((numbers < scale.vmin).any()), bool((numbers > scale.vmax).any()))
    for _, places in groupby(placed, lambda place: _row(place[0])):
        row = list(places)
        for axes, heat_map in row:
            image = _draw_heat_map(axes, heat_map, scale)
        all_axes = [axes for axes, _ in row]
        # the gap is a fraction of the whole row's width
        bar = axes.figure.colorbar(image, ax=all_axes, extend=ENDS[beyond], pad=0.04 / len(row))
        bar.set_label(_wrapped(some.scale_label, LEGEND))


def _row(axes: Axes) -> int:
    """Return the row of the figure's grid in which ``axes`` stand."""
    spec = axes.get_subplotspec()
    return spec.rowspan.start if spec else 0


def _draw_heat_map(axes: Axes, heat_map: HeatMap, scale: Normalize) -> ScalarMappable:
    """Draw one heat map in the colours of ``scale``; returns the image."""
    for axis, ticks in ((axes.xaxis, 5), (axes.yaxis, 9)):  # more would touch each other
        axis.set_major_locator(MaxNLocator(ticks, integer=True))
    colours: dict[str, Any] = {"cmap": HEAT, "norm": scale}
    values, extent = _numbers(heat_map.values), heat_map.extent
    if heat_map.columns is None or extent is None:
        return axes.imshow(values, aspect="auto", interpolation="nearest", extent=extent, **colours)
    rows = np.linspace(extent[3], extent[2], len(values) + 1)
    image = axes.pcolorfast(heat_map.columns, rows, np.ma.masked_invalid(values), **colours)
    axes.set_ylim(extent[2], extent[3])
    return image


def _draw_bars(pictures: Sequence[Bars]) -> Figure:
    """Draw charts of bars one below the other."""
    heights = [AROUND_BARS + BAR * len(bars.groups) * len(bars.series) for bars in pictures]
    figure = Figure((BARS_WIDE, sum(heights)), layout="constrained")
    grid = figure.add_gridspec(len(pictures), 1, height_ratios=heights)
    for number, bars in enumerate(pictures):
        _draw_groups(figure.add_subplot(grid[number]), bars)
    return figure


def _draw_groups(axes: Axes, bars: Bars) -> None:
    """Draw one chart of bars, with the value written at the end of every bar."""
    thick = FULL_GROUP / len(bars.series)
    for number, series in enumerate(bars.series):
        places = [row - FULL_GROUP / 2 + (number + 0.5) * thick for row in range(len(bars.groups))]
        lengths = [0.0 if value is None else value for value in series.values]
        color = PALETTE[number % len(PALETTE)]
        axes.barh(places, lengths, thick, label=series.label, color=color, xerr=_whiskers(series))
        for row, place in enumerate(places):
            axes.annotate(
                _three_digits(series.values[row]),
                (_bar_end(series, row), place),
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
    """Return the whiskers' lengths below and above each bar; None if there are no whiskers."""
    if series.low is None or series.high is None:
        return None
    ends = [
        (0.0, 0.0) if value is None or low is None or high is None else (value - low, high - value)
        for value, low, high in zip(series.values, series.low, series.high)
    ]
    return [[below for below, _ in ends], [above for _, above in ends]]


def _bar_end(series: Series, row: int) -> float:
    """Return the x at which a bar ends, together with its whisker."""
    ends = [series.values[row], series.high[row] if series.high is not None else None]
    return max((end for end in ends if end is not None), default=0.0)


def _three_digits(value: Optional[float]) -> str:
    """Format ``value`` with three digits, or all those before the point if more; None as n/a.

    Whole numbers (int) are counts, and have all their digits.
    """
    if value is None:
        return "n/a"
    if isinstance(value, int):
        return str(value)
    before = int(math.log10(abs(value))) + 1 if abs(value) >= 1 else 1
    return f"{value:.{max(0, 3 - before)}f}"


def _numbers(values: Sequence) -> np.ndarray:
    """Convert ``values`` to an array, with NaN for numbers too large for matplotlib."""
    numbers = np.asarray(values, dtype=float)
    return np.where(np.abs(numbers) < LARGEST, numbers, np.nan)


def _add_legend(figure: Figure, handles: dict[str, Line2D]) -> None:
    """Widen the figure by a legend to the right of the panels.

    The legend gets as many columns as make it fit into the figure's height.
    """
    room = figure.bbox.height - 2 * SPACE * figure.dpi
    columns, legend = 1, _legend(figure, handles, 1)
    while columns < len(handles) and legend.get_window_extent().height > room:
        legend.remove()
        columns += 1
        legend = _legend(figure, handles, columns)
    figure.set_figwidth(figure.get_figwidth() + legend.get_window_extent().width / figure.dpi)


def _legend(figure: Figure, handles: dict[str, Line2D], columns: int) -> Legend:
    """Add a legend with ``columns`` columns to the right of the panels."""
    labels = [_wrapped(label, LEGEND) for label in handles]
    return figure.legend(
        list(handles.values()), labels, loc="outside right upper", frameon=False, ncols=columns
    )


def rendered(figure: Figure) -> dict[str, bytes]:
    """Save the figure in every format; returns file extension → content.

    The same figure always gives the same bytes.
    """
    pictures = {}
    for ending in ENDINGS:
        file, metadata = BytesIO(), {"Date": None} if ending == "svg" else {}
        with rc_context({"svg.hashsalt": "admin"}):
            figure.savefig(file, format=ending, dpi=100, metadata=metadata)
        pictures[ending] = file.getvalue()
    return pictures
