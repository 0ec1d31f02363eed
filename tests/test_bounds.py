import math
from argparse import ArgumentTypeError, Namespace
from dataclasses import fields

import pytest
from omegaconf import OmegaConf

from admin_fairseq import bounds
from admin_fairseq.bounds import NON_NEGATIVE, SEED, SHARE, Bounds, check, counting, numbers
from admin_fairseq.config import BOUNDS, CONFIGS
from admin_fairseq.errors import AdminError

NO_NUMBERS = [math.nan, math.inf, -math.inf, "1", True, None, [1], 1j]


@pytest.mark.parametrize("value", [*NO_NUMBERS, -1, 1.1, 10**400])
def test_what_is_no_share(value):
    assert value not in SHARE


@pytest.mark.parametrize("value", [0, 1, 0.5, 0.0])
def test_shares(value):
    assert value in SHARE


@pytest.mark.parametrize("value", [*NO_NUMBERS, 0, 1.0, 2**63, 10**400])
def test_what_counts_nothing(value):
    assert value not in counting(1)


def test_bounds_are_included():
    assert all(value in counting(1, 3) for value in (1, 2, 3))
    assert 0 not in counting(1, 3) and 4 not in counting(1, 3)


@pytest.mark.parametrize(
    ("type_", "text", "value"), [(counting(1), "12", 12), (SHARE, "1e-1", 0.1), (SEED, "0", 0)]
)
def test_type_of_an_option(type_, text, value):
    assert type_(text) == value


@pytest.mark.parametrize("text", ["", "x", "0", "-1", "1.5", "nan", "²", "9" * 30, "9" * 5000])
def test_type_refuses_other_texts_in_few_words(text):
    with pytest.raises(ArgumentTypeError, match="is not a whole number from 1 on") as error:
        counting(1)(text)
    assert len(str(error.value)) < 300


def test_the_option_and_its_bounds_are_named():
    with pytest.raises(AdminError, match="--some-option takes a number from 0 to 1, not nan"):
        check(Namespace(some_option=math.nan), {"some_option": SHARE})


def test_options_that_are_not_said_are_passed_over():
    check(Namespace(one=None), {"one": SHARE, "other": SHARE})


@pytest.mark.parametrize("values", [[], [0.1, -1.0], [math.nan], "0.1"])
def test_every_number_of_a_list_is_looked_at(values):
    check(OmegaConf.create({"lr": [0.1, 0.2]}), {"lr": NON_NEGATIVE})
    with pytest.raises(AdminError, match="--lr takes a number from 0 on"):
        check(OmegaConf.create({"lr": values}), {"lr": NON_NEGATIVE})


@pytest.mark.parametrize(
    ("given", "expected"),
    [("(0.9, 0.98)", [0.9, 0.98]), ("4,6", [4, 6]), ("4", [4]), ((1, 2), [1, 2]), ([3], [3])],
)
def test_numbers(given, expected):
    assert numbers(given) == expected


@pytest.mark.parametrize(
    "text",
    ["", "x", "__import__('os').getcwd()", "(" * 500, "[1] * 9", "1+", "{1: 2}", "{1, 2}", "'ab'"],
)
def test_text_is_never_run(text):
    """What is no list of numbers is the only element, for errors to quote."""
    assert len(numbers(text)) == 1 and not isinstance(numbers(text)[0], (int, float))


def test_every_number_of_a_model_has_bounds():
    for config in CONFIGS.values():
        found = {f.name for f in fields(config) if "int" in str(f.type) or "float" in str(f.type)}
        assert found <= set(BOUNDS)
        defaults = {f.name: f.default for f in fields(config) if not isinstance(f.default, str)}
        check(Namespace(**defaults), BOUNDS)


def test_bounds_are_those_of_options():
    known = {f.name for config in CONFIGS.values() for f in fields(config)}
    assert set(BOUNDS) <= known
    assert all(isinstance(admitted, Bounds) for admitted in BOUNDS.values())


def test_spelling():
    assert bounds.spelled("max_tokens") == "--max-tokens"
