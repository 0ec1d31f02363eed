"""Replace names of a module as one other module sees them, and nowhere else."""

from __future__ import annotations

from contextlib import contextmanager
from types import ModuleType
from typing import Any, Iterator


class StandIn(ModuleType):
    """A module that behaves like ``original``, except that the names in ``replaced`` differ.

    ``fairseq.checkpoint_utils.torch = StandIn(torch, load=...)`` changes the ``torch.load`` that
    ``fairseq.checkpoint_utils`` calls, and leaves ``torch.load`` unchanged for all other modules.
    """

    def __init__(self, original: ModuleType, **replaced: Any) -> None:
        super().__init__(original.__name__, original.__doc__)
        self.__dict__.update(replaced)
        self._original = original

    def __getattr__(self, name: str) -> Any:
        """Return the attribute of the original module, for names that are not replaced."""
        return getattr(self._original, name)


@contextmanager
def replaced(module: ModuleType, **names: Any) -> Iterator[None]:
    """Give names of ``module`` other values inside the block, and restore them at its end."""
    before = {name: getattr(module, name) for name in names}
    vars(module).update(names)
    try:
        yield
    finally:
        vars(module).update(before)
