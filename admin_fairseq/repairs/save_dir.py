"""One training run at a time in a --save-dir, which it finds without remains of killed ones.

Seen in fairseq 0.12.2 and fairseq-fixed 0.12.3.1 (``checkpoint_utils``): nothing keeps two runs
from overwriting each other's checkpoints.
"""

from __future__ import annotations

import fcntl
import functools
import logging
import os
import re
from contextlib import suppress
from typing import Callable

from fairseq import checkpoint_utils

from admin_fairseq.errors import AdminError
from admin_fairseq.files import clear_remains

LOCK = ".lock"
TEMPORARY = r"\.(checkpoint.*)-[a-z0-9_]{8}"  # as files.replacing names it
TEMPORARY_OF_FAIRSEQ = r"checkpoint.*\.pt\.tmp"

logger = logging.getLogger(__name__)


def apply() -> None:
    """Let the run take its --save-dir where fairseq checks it.

    That is done by the first worker alone, before anything is written; by runs with --no-save
    too, as they may write a profile.
    """
    checkpoint_utils.verify_checkpoint_directory = _taking(
        checkpoint_utils.verify_checkpoint_directory
    )


def _taking(verify: Callable[[str], None]) -> Callable[[str], None]:
    @functools.wraps(verify)
    def verify_checkpoint_directory(save_dir: str) -> None:
        try:
            verify(save_dir)
            descriptor = os.open(os.path.join(save_dir, LOCK), os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            reason = error.strerror or error
            raise AdminError(f"{save_dir}: checkpoints cannot be written there: {reason}") from None
        _lock(descriptor, save_dir)
        _clear(save_dir)

    return verify_checkpoint_directory


def _lock(descriptor: int, save_dir: str) -> None:
    """Hold ``descriptor``, a file of ``save_dir``, until this process ends.

    The lock is the process's own: workers that it forks to load data do not have it, and cannot
    hold it when the process is killed. Raises AdminError where another process has it.
    """
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # systems say the one or the other
        raise AdminError(
            f"{save_dir}: another training run uses it; wait for its end, "
            "or choose another --save-dir"
        ) from None
    except OSError as error:
        logger.warning(
            f"{save_dir}: its file system has no locks ({error.strerror}), "
            "so nothing keeps a second run out of it"
        )


def _clear(save_dir: str) -> None:
    """Remove what killed runs left of checkpoints that they were about to write."""
    for name in os.listdir(save_dir):
        temporary = re.fullmatch(TEMPORARY, name)
        if temporary:
            clear_remains(os.path.join(save_dir, temporary[1]))
        elif re.fullmatch(TEMPORARY_OF_FAIRSEQ, name):
            with suppress(OSError):
                os.remove(os.path.join(save_dir, name))
