"""Statistics of measurements: medians, spreads, ratios, slopes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Sequence

import numpy as np

from admin_fairseq.studies.pictures import Series


@dataclass(frozen=True)
class Spread:
    """Median, quartiles, extremes and all of the values of several blocks."""

    median: float
    lower_quartile: float
    upper_quartile: float
    lowest: float
    highest: float
    by_block: list[float]


def spread(values: Sequence[float]) -> Spread:
    lowest, lower, middle, upper, highest = np.percentile(values, [0, 25, 50, 75, 100]).tolist()
    return Spread(middle, lower, upper, lowest, highest, list(values))


def series(label: str, spreads: Sequence[Optional[Spread]]) -> Series:
    """Bars to the medians with whiskers to the extremes; None where nothing was measured."""

    def each(name: str) -> list[Optional[float]]:
        return [None if one is None else getattr(one, name) for one in spreads]

    return Series(label, each("median"), each("lowest"), each("highest"))


def ratios(ours: Sequence[float], stock: Sequence[float]) -> list[float]:
    """ours/stock of every pair of blocks, which were measured one after the other."""
    return [mine / theirs for mine, theirs in zip(ours, stock)]


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """k of y ∝ x^k, by least squares of log y on log x; NaN for fewer than two points.

    With a fixed part, y = a + b·x, the slope is below 1 and approaches it for large x; see also
    ``neighbour_slopes``.
    """
    if len(x) < 2:
        return float("nan")
    logs = np.log(np.asarray(x, dtype=float))
    away = logs - logs.mean()
    return float(away @ np.log(np.asarray(y, dtype=float)) / (away @ away))


def neighbour_slopes(x: Sequence[float], y: Sequence[float]) -> list[float]:
    """The slope between every two successive points."""
    return [slope(x[i : i + 2], y[i : i + 2]) for i in range(len(x) - 1)]
