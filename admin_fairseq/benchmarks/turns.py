"""Several that take turns."""

from __future__ import annotations

from typing import Callable, Mapping, TypeVar

T = TypeVar("T")


def take_turns(sides: Mapping[str, Callable[[int], T]], blocks: int) -> dict[str, list[T]]:
    """What every side gives for the numbers of the blocks, block by block.

    The order is turned around from block to block, so that drift of the machine's speed and what
    one side leaves in the caches fall on all.
    """
    given: dict[str, list[T]] = {name: [] for name in sides}
    for i in range(blocks):
        for name in sides if i % 2 == 0 else reversed(list(sides)):
            given[name].append(sides[name](i))
    return given
