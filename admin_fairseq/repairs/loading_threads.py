"""A run that stops in the middle of an epoch ends with the status that it has earned.

Seen in fairseq 0.12.2 and fairseq-fixed 0.12.3.1 (``data.iterators.BufferedIterator``): a thread
loads batches ahead, and still does when Python ends. Where it comes back from torch at that moment,
the process aborts with "terminate called without an active exception" and status 134, though the
training was complete.
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
"""Seconds that Python waits at its end for a batch that is being loaded."""


class BackgroundConsumer(iterators.BackgroundConsumer):
    """fairseq's thread, which ``stop`` ends."""

    def __init__(self, queue: queue.Queue, source: Iterable, *options: Any) -> None:
        self._told, self._waiting = threading.Event(), queue
        super().__init__(queue, self._until_told(source), *options)

    def _until_told(self, source: Iterable) -> Iterator[Any]:
        for item in source:
            if self._told.is_set():
                return
            yield item

    def stop(self) -> None:
        """Have it load nothing more; it may be waiting for room in its queue."""
        self._told.set()
        deadline = time.monotonic() + LONGEST
        while self.is_alive() and time.monotonic() < deadline:
            with suppress(queue.Empty):
                self._waiting.get_nowait()
            self.join(0.01)


def apply() -> None:
    """Stop what loads batches before Python ends, whatever the architecture."""
    iterators.BackgroundConsumer = BackgroundConsumer
    atexit.register(stop_all)


def stop_all() -> None:
    for thread in threading.enumerate():
        if isinstance(thread, BackgroundConsumer):
            thread.stop()
