"""Steps that are done once: a later run skips what is done, and does the rest."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
from contextlib import contextmanager
from typing import Any, Callable, Iterator, Sequence

from admin_fairseq.errors import AdminError
from admin_fairseq.files import clear_remains, write_json

logger = logging.getLogger(__name__)
WORKPLACE = "work"  # in the data folder: what is needed only on the way


class Steps:
    """The steps of one preparation, in their order, over one folder.

    A step is done when its outputs are there and its mark tells the settings of this run, its own
    and those of every step before it; the mark is written last.
    """

    def __init__(self, folder: str) -> None:
        self.folder = os.path.join(folder, WORKPLACE)
        self._history = hashlib.sha256()

    def run(
        self, name: str, settings: Any, outputs: Sequence[str], action: Callable[[], None]
    ) -> None:
        """Do ``action``, which makes ``outputs``, unless it was done with these settings."""
        self._history.update(json.dumps([name, settings], sort_keys=True).encode())
        mark, history = os.path.join(self.folder, f"{name}.done"), self._history.hexdigest()
        if _read(mark) == history and all(map(os.path.exists, outputs)):
            logger.info("%s: done before", name)
            return
        logger.info("%s ...", name)
        for output in outputs:
            clear_remains(output)
        if os.path.exists(mark):
            os.remove(mark)
        action()
        write_json(history, mark)


def _read(mark: str) -> Any:
    try:
        with open(mark, encoding="utf-8") as file:
            return json.load(file)
    except (FileNotFoundError, ValueError):
        return None


@contextmanager
def alone_in(folder: str) -> Iterator[None]:
    """Keep other preparations out of ``folder``."""
    try:
        os.makedirs(folder, exist_ok=True)
        lock = os.open(os.path.join(folder, ".lock"), os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise AdminError(f"{folder}: cannot be written: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise AdminError(f"{folder}: another preparation is at work there") from None
    finally:
        os.close(lock)
