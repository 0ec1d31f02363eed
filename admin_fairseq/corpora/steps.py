"""Run the steps of ``admin-fairseq prepare`` so that a later run skips the steps that are done."""

from __future__ import annotations

import fcntl
import glob
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
PATIENCE = 10  # seconds to wait for the lock
WORKPLACE = "work"  # the subfolder of the data folder for intermediate files


class Steps:
    """The steps of one preparation, which are run in order and leave marks in one folder.

    The mark of a step is a file NAME.done, written after its outputs, with a hash of its settings
    and of those of all earlier steps. A step is skipped if its mark has the hash of the present
    settings and its outputs exist.
    """

    def __init__(self, folder: str) -> None:
        self.folder = os.path.join(folder, WORKPLACE)
        self._history = hashlib.sha256()

    def run(
        self, name: str, settings: Any, outputs: Sequence[str], action: Callable[[], None]
    ) -> None:
        """Call ``action``, which writes the files ``outputs``, unless an earlier run did so with
        the same ``settings``; then write the step's mark."""
        self._history.update(json.dumps([name, settings], sort_keys=True).encode())
        mark, history = os.path.join(self.folder, f"{name}.done"), self._history.hexdigest()
        if _read(mark) == history and all(map(os.path.isfile, outputs)):
            logger.info("%s: already done", name)
            return
        logger.info("%s ...", name)
        remove(mark)
        action()
        write_json(history, mark)


def begin(folder: str) -> None:
    """Mark ``folder`` as one with files of a preparation, before it has any outside of work/."""
    write_json("begun", os.path.join(folder, WORKPLACE, "begin.done"))


def begun(folder: str) -> bool:
    """Return whether a preparation has left marks in ``folder``."""
    return bool(glob.glob(os.path.join(glob.escape(folder), WORKPLACE, "*.done")))


def _read(mark: str) -> Optional[str]:
    """Read the hash in a step's mark file; None, so that the step is run, if the file is missing or
    damaged."""
    try:
        return read_json(mark, str, "the mark of a step")
    except AdminError:
        return None


@contextmanager
def alone_in(folder: str) -> Iterator[None]:
    """Lock ``folder`` against other runs of ``admin-fairseq prepare``; raise AdminError if one is
    running there.

    The lock is one of the kernel's, which releases it even if the process is killed. A run that
    fails before it has made a file, for example because the text is empty, removes the lock file
    again, and the folder if it was not there before.
    """
    lock, new = os.path.join(folder, LOCK), not os.path.lexists(folder)
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise AdminError(f"{folder}: cannot be written: {error.strerror or error}") from None
    with ExitStack() as stack:
        try:
            _lock(stack.enter_context(open_own(lock)))
        except BlockingIOError:
            raise AdminError(
                f"{folder}: another admin-fairseq prepare is running in this folder"
            ) from None
        except OSError as error:
            raise AdminError(f"{lock}: cannot be locked: {error.strerror or error}") from None
        try:
            yield
        finally:
            if os.listdir(folder) == [LOCK]:
                remove(lock)
                if new:
                    os.rmdir(folder)


def _lock(file: BinaryIO) -> None:
    """Lock ``file``; raise BlockingIOError if another process holds its lock for PATIENCE seconds.

    It waits because worker processes of a killed preparation hold the lock until they end.
    """
    begin = time.monotonic()
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() - begin > PATIENCE:
                raise
        time.sleep(0.1)
