"""Run measurements of several sides (stock, ours) in alternating order."""

from __future__ import annotations

from typing import Callable, Mapping, TypeVar

from admin_fairseq.errors import blaming

T = TypeVar("T")


def take_turns(sides: Mapping[str, Callable[[int], T]], blocks: int) -> dict[str, list[T]]:
    """Call each of ``sides`` (name → measurement) once per block, in alternating order.

    A measurement gets the block's number. Returns the results by name, block by block. The order is
    reversed from block to block, so that drift of the machine's speed and leftovers in its caches
    affect all sides alike. An AdminError that a measurement raises gets the side's name.
    """
    given: dict[str, list[T]] = {name: [] for name in sides}
    for i in range(blocks):
        for name in sides if i % 2 == 0 else reversed(list(sides)):
            with blaming(name):
                given[name].append(sides[name](i))
    return given
