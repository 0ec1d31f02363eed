"""A completed run that stops in the middle of an epoch does not abort as Python exits.

Seen in fairseq 0.12.2 and fairseq-fixed 0.12.3.1 (``data.iterators.BufferedIterator``): a thread
loads batches ahead, and still does when Python exits. If it returns from torch at that moment, the
process aborts with "terminate called without an active exception" and status 134.
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
"""Seconds that Python waits at exit for a batch that is being loaded."""


class BackgroundConsumer(iterators.BackgroundConsumer):
    """fairseq's thread, which ``stop`` ends."""

    def __init__(self, queue: queue.Queue, source: Iterable, *options: Any) -> None:
        self._stopped, self._waiting = threading.Event(), queue
        super().__init__(queue, self._until_stopped(source), *options)

    def _until_stopped(self, source: Iterable) -> Iterator[Any]:
        for item in source:
            if self._stopped.is_set():
                return
            yield item

    def stop(self) -> None:
        """Stop loading; empties the queue, as the thread may be waiting for room in it."""
        self._stopped.set()
        deadline = time.monotonic() + LONGEST
        while self.is_alive() and time.monotonic() < deadline:
            with suppress(queue.Empty):
                self._waiting.get_nowait()
            self.join(0.01)


def apply() -> None:
    """Stop the loading threads before Python exits, whatever the architecture."""
    iterators.BackgroundConsumer = BackgroundConsumer
    atexit.register(stop_all)


def stop_all() -> None:
    for thread in threading.enumerate():
        if isinstance(thread, BackgroundConsumer):
            thread.stop()
