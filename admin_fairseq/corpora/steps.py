"""Steps of a preparation: a later run skips those that are done."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import time
from contextlib import ExitStack, contextmanager
from typing import Any, BinaryIO, Callable, Iterator, Optional, Sequence

from admin_fairseq.corpora.places import open_own, remove
from admin_fairseq.errors import AdminError
from admin_fairseq.files import read_json, write_json

logger = logging.getLogger(__name__)
LOCK = ".lock"
PATIENCE = 10  # seconds
WORKPLACE = "work"  # in the data folder, for intermediate files


class Steps:
    """The steps of one preparation, in order, in one folder.

    A step is done when its outputs exist and its mark is that of this run's settings: its own and
    those of every earlier step. The mark is written last.
    """

    def __init__(self, folder: str) -> None:
        self.folder = os.path.join(folder, WORKPLACE)
        self._history = hashlib.sha256()

    def run(
        self, name: str, settings: Any, outputs: Sequence[str], action: Callable[[], None]
    ) -> None:
        """Run ``action``, which makes ``outputs``, unless that was done with these settings."""
        self._history.update(json.dumps([name, settings], sort_keys=True).encode())
        mark, history = os.path.join(self.folder, f"{name}.done"), self._history.hexdigest()
        if _read(mark) == history and all(map(os.path.isfile, outputs)):
            logger.info("%s: already done", name)
            return
        logger.info("%s ...", name)
        remove(mark)
        action()
        write_json(history, mark)


def _read(mark: str) -> Optional[str]:
    """The content of a step's mark; None if it is missing or damaged: the step is not done."""
    try:
        return read_json(mark, str, "the mark of a step")
    except AdminError:
        return None


@contextmanager
def alone_in(folder: str) -> Iterator[None]:
    """Keep other preparations out of ``folder``; the kernel releases the lock of a killed one."""
    lock = os.path.join(folder, LOCK)
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise AdminError(f"{folder}: cannot be written: {error.strerror or error}") from None
    with ExitStack() as stack:
        try:
            _lock(stack.enter_context(open_own(lock)))
        except BlockingIOError:
            raise AdminError(f"{folder}: another preparation is at work there") from None
        except OSError as error:
            raise AdminError(f"{lock}: cannot be locked: {error.strerror or error}") from None
        yield


def _lock(file: BinaryIO) -> None:
    """Lock ``file``; wait for processes of a killed preparation, which hold it until they end.

    Raises BlockingIOError if it is locked for longer than PATIENCE.
    """
    begin = time.monotonic()
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() - begin > PATIENCE:
                raise
        time.sleep(0.1)
