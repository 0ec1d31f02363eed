"""Settings as fairseq's options."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admin_fairseq.recipes.settings import number, options


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-3, "1e-3"), (1.5e-3, "1.5e-3"), (1e-7, "1e-7"), (0.0, "0.0"), (25.0, "25.0"), (8, "8")],
)
def test_numbers_are_written_as_people_do(value, text):
    assert number(value) == text


@given(st.floats(allow_nan=False))
def test_a_number_is_read_back_as_it_was(value):
    assert float(number(value)) == value


def test_options():
    settings = {"model._name": "a", "lr_scheduler._name": "b", "optimization.max_update": 3}
    settings |= {"common.fp16": True, "common.cpu": False, "model.init_type": None}
    words = ["--arch", "a", "--lr-scheduler", "b", "--max-update", "3", "--fp16"]
    assert options(settings) == words
