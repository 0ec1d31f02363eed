"""Ranges ("bounds") of numeric options, and functions that check options against them."""

from __future__ import annotations

import ast
import sys
from argparse import ArgumentTypeError
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Mapping, Union

from admin_fairseq.errors import AdminError, shortened

MOST = sys.maxsize
"""The largest whole number that an option without a bound of its own admits."""


@dataclass(frozen=True)
class Bounds:
    """A range of numbers from ``lowest`` to ``highest``, both included; never infinity or NaN.

    ``number in bounds`` tests membership; ``whole`` admits whole numbers only. As the ``type`` of
    an argparse option, an instance parses the option's text and refuses numbers outside the range.
    """

    lowest: float
    highest: float = sys.float_info.max
    whole: bool = False

    def __contains__(self, value: Any) -> bool:
        kinds = int if self.whole else (int, float)
        if not isinstance(value, kinds) or isinstance(value, bool):
            return False
        return self.lowest <= value <= self.highest

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        end = "on" if self.highest >= MOST else f"to {self.highest:,}"
        return f"{kind} from {self.lowest:,} {end}"

    def __call__(self, text: str) -> Union[int, float]:
        with suppress(ValueError):
            value = int(text) if self.whole else float(text)
            if value in self:
                return value
        raise ArgumentTypeError(f"{shortened(text, 100)!r} is not {self}")


def counting(lowest: int, highest: int = MOST) -> Bounds:
    """Return the range of the whole numbers from ``lowest`` to ``highest``."""
    return Bounds(lowest, highest, whole=True)


NON_NEGATIVE = Bounds(0)
SHARE = Bounds(0, 1)
"""The range of probabilities and of fractions of a whole."""
SEED = counting(0, 2**32 - 1)
"""The range of random seeds, which is that of numpy's generators."""


def check(options: Any, bounds: Mapping[str, Bounds]) -> None:
    """Raise AdminError that names the first of ``options`` outside its range in ``bounds``.

    ``bounds`` maps names of attributes of ``options`` to ranges. A list must not be empty, and all
    its numbers must be in the range. Options that are missing or None pass.
    """
    for name, admitted in bounds.items():
        value: Any = getattr(options, name, None)
        several = isinstance(value, Collection) and not isinstance(value, str)
        values = list(value) if several else [value]
        if value is not None and not (values and all(each in admitted for each in values)):
            raise AdminError(f"{spelled(name)} takes {admitted}, not {shortened(repr(value), 100)}")


def spelled(option: str) -> str:
    """Return the name of an option as on the command line: ``max_update`` → ``--max-update``."""
    return "--" + option.replace("_", "-")


def numbers(given: Any) -> list[Any]:
    """Return a list of the numbers in ``given``: a number, a list, or text like ``"(0.9, 0.98)"``.

    Replaces fairseq's ``eval`` of such options' text. Text that is not a Python literal is returned
    as the only element, for an error to quote.
    """
    try:
        value = ast.literal_eval(given) if isinstance(given, str) else given
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return [given]
    several = isinstance(value, Sequence) and not isinstance(value, str)
    return list(value) if several else [value]
