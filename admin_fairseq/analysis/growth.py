"""Fit laws to how a quantity grows with depth N, by least squares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np

ENOUGH = 3  # depths to fit a law to, as a line fits any two points


@dataclass(frozen=True)
class Fit:
    """The line y = intercept + slope · x, and R², the share of y's variance that it explains."""

    intercept: float
    slope: float
    r2: float


@dataclass(frozen=True)
class Growth:
    """A power law, a logarithmic and a linear law, fitted to the same quantity y.

    ``power`` fits log y to log N, and its slope is the exponent; ``logarithmic`` fits y to log N,
    ``linear`` y to N.
    """

    power: Fit
    logarithmic: Fit
    linear: Fit


def growth(depths: Sequence[float], values: Sequence[float]) -> Growth | None:
    """Fit a power law, a logarithmic and a linear law to ``values`` at ``depths``.

    Returns None for fewer than three different depths, or if a value is not positive and finite.
    """
    n, y = np.asarray(depths, float), np.asarray(values, float)
    if len(set(depths)) < ENOUGH or not (np.isfinite(y).all() and (y > 0).all()):
        return None
    return Growth(_fit(np.log(n), np.log(y)), _fit(np.log(n), y), _fit(n, y))


def _fit(x: np.ndarray, y: np.ndarray) -> Fit:
    """Fit a line to the points by least squares."""
    slope, intercept = np.polyfit(x, y, 1)
    spread = np.square(y - y.mean()).sum()
    errors = np.square(y - intercept - slope * x).sum()
    return Fit(float(intercept), float(slope), float(1 - errors / spread) if spread else 0.0)
