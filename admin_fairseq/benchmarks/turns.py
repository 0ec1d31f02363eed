"""Run measurements in alternating order."""

from __future__ import annotations

from typing import Callable, Mapping, TypeVar

T = TypeVar("T")


def take_turns(sides: Mapping[str, Callable[[int], T]], blocks: int) -> dict[str, list[T]]:
    """Call every side with the number of each block; returns its results, block by block.

    The order is reversed from block to block, so that drift of the machine's speed and leftovers in
    its caches affect all sides alike.
    """
    given: dict[str, list[T]] = {name: [] for name in sides}
    for i in range(blocks):
        for name in sides if i % 2 == 0 else reversed(list(sides)):
            given[name].append(sides[name](i))
    return given
