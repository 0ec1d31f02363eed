"""Bounds of numeric options, and the check of options against tables of bounds."""

from __future__ import annotations

import ast
import sys
from argparse import ArgumentTypeError
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Mapping, Union

from admin_fairseq.errors import AdminError, shortened

MOST = sys.maxsize
"""The largest count: what the length of a list can be."""


@dataclass(frozen=True)
class Bounds:
    """Numbers from ``lowest`` to ``highest``, both included; never infinity or NaN.

    As the type of an argparse option, it parses such a number and refuses any other text.
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
    """Bounds of whole numbers."""
    return Bounds(lowest, highest, whole=True)


NON_NEGATIVE = Bounds(0)
SHARE = Bounds(0, 1)
"""Probabilities, and parts of a whole."""
SEED = counting(0, 2**32 - 1)
"""numpy takes no others."""


def check(options: Any, bounds: Mapping[str, Bounds]) -> None:
    """Raise AdminError that names the first of ``options`` that is out of its bounds.

    Lists must not be empty, and all their numbers within bounds. Options that are missing or None
    pass.
    """
    for name, admitted in bounds.items():
        value: Any = getattr(options, name, None)
        several = isinstance(value, Collection) and not isinstance(value, str)
        values = list(value) if several else [value]
        if value is not None and not (values and all(each in admitted for each in values)):
            raise AdminError(f"{spelled(name)} takes {admitted}, not {shortened(repr(value), 100)}")


def spelled(option: str) -> str:
    """An option as the command line spells it."""
    return "--" + option.replace("_", "-")


def numbers(given: Any) -> list[Any]:
    """The numbers in ``given``: a number, a list, or text like ``"(0.9, 0.98)"`` or ``"4,6"``.

    fairseq passes such text to ``eval``. Text that is no literal gives an empty list.
    """
    try:
        value = ast.literal_eval(given) if isinstance(given, str) else given
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return []
    return list(value) if isinstance(value, Collection) else [value]
