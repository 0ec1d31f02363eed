"""Summarise measurements of several blocks: medians, spreads, ratios, slopes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Sequence

import numpy as np

from admin_fairseq.studies.pictures import Series


@dataclass(frozen=True)
class Spread:
    """Median, quartiles and extremes of one value per block, and the values themselves."""

    median: float
    lower_quartile: float
    upper_quartile: float
    lowest: float
    highest: float
    by_block: list[float]


def spread(values: Sequence[float]) -> Spread:
    """Compute the median, quartiles and extremes of ``values``, one per block."""
    lowest, lower, middle, upper, highest = np.percentile(values, [0, 25, 50, 75, 100]).tolist()
    return Spread(middle, lower, upper, lowest, highest, list(values))


def series(label: str, spreads: Sequence[Optional[Spread]]) -> Series:
    """Describe bars in a picture: one per spread, with whiskers to its lowest and highest value.

    A bar is as long as the median; None stands where nothing was measured.
    """

    def each(name: str) -> list[Optional[float]]:
        return [None if one is None else getattr(one, name) for one in spreads]

    return Series(label, each("median"), each("lowest"), each("highest"))


def ratios(ours: Sequence[float], stock: Sequence[float]) -> list[float]:
    """Divide values of ours by those of stock fairseq, block by block."""
    return [mine / theirs for mine, theirs in zip(ours, stock)]


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Return k of y ∝ x^k by least squares of log y on log x; NaN for fewer than two points.

    If y has a fixed part, y = a + b·x, the slope is below 1 and approaches 1 for large x; see also
    ``neighbour_slopes``.
    """
    if len(x) < 2:
        return float("nan")
    logs = np.log(np.asarray(x, dtype=float))
    away = logs - logs.mean()
    return float(away @ np.log(np.asarray(y, dtype=float)) / (away @ away))


def neighbour_slopes(x: Sequence[float], y: Sequence[float]) -> list[float]:
    """Return the ``slope`` between every two successive points."""
    return [slope(x[i : i + 2], y[i : i + 2]) for i in range(len(x) - 1)]
