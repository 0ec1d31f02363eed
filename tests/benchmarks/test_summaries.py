import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from admin_fairseq.benchmarks.summaries import Spread, neighbour_slopes, ratios, slope, spread
from admin_fairseq.benchmarks.turns import take_turns

DEPTHS = [6, 12, 24, 48, 96, 200]
POWERS = st.floats(-3, 3)
SIZES = st.floats(1e-3, 1e3)


@settings(deadline=None, max_examples=30)
@given(POWERS, SIZES)
def test_slope_of_a_power_is_its_exponent(power, factor):
    values = [factor * n**power for n in DEPTHS]
    assert slope(DEPTHS, values) == pytest.approx(power, abs=1e-9)
    assert neighbour_slopes(DEPTHS, values) == pytest.approx([power] * 5, abs=1e-9)


@settings(deadline=None, max_examples=30)
@given(SIZES, SIZES)
def test_a_fixed_part_flattens_less_the_deeper_it_gets(fixed, per_layer):
    values = [fixed + per_layer * n for n in DEPTHS]
    steps = neighbour_slopes(DEPTHS, values)
    assert 0 < slope(DEPTHS, values) < 1
    assert steps == sorted(steps) and steps[-1] < 1


def test_slope_by_hand():
    # logs of x: 0, 1, 2, of y: 0, 2, 3, to the base 2; Σ(x−1)(y−5/3) / Σ(x−1)² = 3/2
    assert slope([1, 2, 4], [1, 4, 8]) == pytest.approx(1.5)


def test_one_point_has_no_slope():
    assert math.isnan(slope([6], [1.0]))
    assert neighbour_slopes([6], [1.0]) == []


def test_spread_of_numbers_in_any_order():
    assert spread([5, 1, 3, 2, 4]) == Spread(
        median=3, lower_quartile=2, upper_quartile=4, lowest=1, highest=5, by_block=[5, 1, 3, 2, 4]
    )
    assert spread([7.0]) == Spread(7, 7, 7, 7, 7, [7])


def test_ratios_are_those_of_neighbours():
    assert ratios([2, 9], [1, 3]) == [2, 3]


def test_turns_change_their_order():
    seen = []

    def side(name):
        return lambda i: seen.append((name, i)) or (name, i)

    given = take_turns({"a": side("a"), "b": side("b")}, 3)
    assert seen == [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2), ("b", 2)]
    assert given == {name: [(name, 0), (name, 1), (name, 2)] for name in "ab"}
