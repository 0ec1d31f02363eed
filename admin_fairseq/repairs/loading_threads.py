"""Stop fairseq's data-loading threads before Python exits, which would otherwise abort.

Seen in fairseq 0.12.2 and fairseq-fixed 0.12.3.1 (``data.iterators.BufferedIterator``): a thread
loads batches ahead, and is still running when a completed run exits in the middle of an epoch. If
the thread returns from torch code at that moment, the process aborts with "terminate called without
an active exception" and status 134.
"""

from __future__ import annotations

import atexit
import queue
import threading
import time
from contextlib import suppress
from typing import Any, Iterable, Iterator

from fairseq.data import iterators

LONGEST = 10.0
"""Seconds to wait, when Python exits, for a batch that is being loaded."""


class BackgroundConsumer(iterators.BackgroundConsumer):
    """fairseq's thread that loads batches ahead, from ``source`` into ``queue``, made stoppable.

    The method ``stop`` ends it.
    """

    def __init__(self, queue: queue.Queue, source: Iterable, *options: Any) -> None:
        self._stopped, self._waiting = threading.Event(), queue
        super().__init__(queue, self._until_stopped(source), *options)

    def _until_stopped(self, source: Iterable) -> Iterator[Any]:
        """Yield the items of ``source`` until ``stop`` is called."""
        for item in source:
            if self._stopped.is_set():
                return
            yield item

    def stop(self) -> None:
        """Stop the thread and wait for its end, at most LONGEST seconds.

        The queue is emptied meanwhile, as the thread may be waiting for space in it.
        """
        self._stopped.set()
        deadline = time.monotonic() + LONGEST
        while self.is_alive() and time.monotonic() < deadline:
            with suppress(queue.Empty):
                self._waiting.get_nowait()
            self.join(0.01)


def apply() -> None:
    """Patch fairseq to load batches with ``BackgroundConsumer``, and stop its threads at exit."""
    iterators.BackgroundConsumer = BackgroundConsumer
    atexit.register(stop_all)


def stop_all() -> None:
    """Stop all ``BackgroundConsumer`` threads of this process."""
    for thread in threading.enumerate():
        if isinstance(thread, BackgroundConsumer):
            thread.stop()
