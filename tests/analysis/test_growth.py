import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from admin_fairseq.analysis.growth import growth

depths = st.lists(st.integers(1, 200), min_size=3, max_size=9, unique=True)
small = st.floats(-3, 3)
positive = st.floats(0.01, 10)


@settings(deadline=None)
@given(depths, positive, small)
def test_a_power_law_gives_its_exponent(depths, factor, exponent):
    found = growth(depths, [factor * n**exponent for n in depths]).power
    assert found.slope == pytest.approx(exponent, abs=1e-6)
    assert math.exp(found.intercept) == pytest.approx(factor)
    assert abs(exponent) < 1e-3 or found.r2 == pytest.approx(1)


@settings(deadline=None)
@given(depths, positive, positive)
def test_a_logarithm_gives_its_coefficients(depths, a, b):
    found = growth(depths, [a + b * math.log(n) for n in depths]).logarithmic
    assert (found.intercept, found.slope) == pytest.approx((a, b), rel=1e-5, abs=1e-6)
    assert found.r2 == pytest.approx(1)


@settings(deadline=None)
@given(depths, positive, positive)
def test_a_line_gives_its_coefficients(depths, a, b):
    found = growth(depths, [a + b * n for n in depths]).linear
    assert (found.intercept, found.slope) == pytest.approx((a, b), rel=1e-5, abs=1e-6)
    assert found.r2 == pytest.approx(1)


def test_what_a_fit_does_not_explain_lowers_r2():
    found = growth([1, 2, 3, 4], [1.0, 3.0, 2.0, 4.0]).linear
    assert found.slope == pytest.approx(0.8) and found.r2 == pytest.approx(0.64)


@pytest.mark.parametrize(
    "values", [[1.0, 2.0], [1.0, 0.0, 2.0], [1.0, math.inf, 2.0], [1.0, math.nan, 2.0]]
)
def test_nothing_is_fitted_to_too_little(values):
    assert growth(list(range(1, len(values) + 1)), values) is None


def test_what_does_not_grow_has_slope_zero_and_nothing_to_explain():
    found = growth([1, 2, 4], [3.0, 3.0, 3.0]).linear
    assert found.slope == pytest.approx(0, abs=1e-9) and found.r2 == 0


def test_one_depth_twice_is_one_depth():
    assert growth([6, 6, 12], [1.0, 2.0, 3.0]) is None
