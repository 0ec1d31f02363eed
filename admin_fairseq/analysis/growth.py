"""How a quantity grows with depth N: least-squares fits of power, logarithmic, linear laws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np

ENOUGH = 3  # depths: a line fits any two points


@dataclass(frozen=True)
class Fit:
    """y = intercept + slope · x, and R², the share of y's variance that it explains."""

    intercept: float
    slope: float
    r2: float


@dataclass(frozen=True)
class Growth:
    """``power`` fits log y to log N, its slope is the exponent; the others fit y to log N, to N."""

    power: Fit
    logarithmic: Fit
    linear: Fit


def growth(depths: Sequence[float], values: Sequence[float]) -> Growth | None:
    """The three fits; None if there are too few depths, or a value is not positive."""
    n, y = np.asarray(depths, float), np.asarray(values, float)
    if len(set(depths)) < ENOUGH or not (np.isfinite(y).all() and (y > 0).all()):
        return None
    return Growth(_fit(np.log(n), np.log(y)), _fit(np.log(n), y), _fit(n, y))


def _fit(x: np.ndarray, y: np.ndarray) -> Fit:
    slope, intercept = np.polyfit(x, y, 1)
    spread = np.square(y - y.mean()).sum()
    errors = np.square(y - intercept - slope * x).sum()
    return Fit(float(intercept), float(slope), float(1 - errors / spread) if spread else 0.0)
