"""Lock a run's --save-dir against other runs, and clear it of temporary files of killed runs.

Seen in fairseq 0.12.2 and fairseq-fixed 0.12.3.1 (``checkpoint_utils``): nothing stops two runs
from overwriting each other's checkpoints.
"""

from __future__ import annotations

import atexit
import errno
import fcntl
import functools
import logging
import os
import re
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Callable, Iterator

from fairseq import checkpoint_utils
from fairseq.distributed import utils as distributed_utils
from omegaconf import DictConfig, OmegaConf

from admin_fairseq.errors import AdminError
from admin_fairseq.files import TEMPORARY, clear_remains
from admin_fairseq.repairs import run_log
from admin_fairseq.repairs.stand_in import replaced

LOCK = ".lock"
TEMPORARY_OF_FAIRSEQ = r"checkpoint.*\.pt\.tmp"

logger = logging.getLogger(__name__)


def apply() -> None:
    """Patch fairseq to lock --save-dir when it checks that folder, and unlock it when the run ends.

    Only worker 0 locks the folder, before anything is written; runs with --no-save do not.
    """
    held = ExitStack()
    atexit.register(held.close)  # for processes that fairseq has started
    verify = checkpoint_utils.verify_checkpoint_directory
    checkpoint_utils.verify_checkpoint_directory = _locking(verify, held)
    distributed_utils.call_main = _releasing(distributed_utils.call_main, held, verify)


def _locking(verify: Callable[[str], None], held: ExitStack) -> Callable[[str], None]:
    """Wrap ``verify_checkpoint_directory`` to lock, clear and log to the folder that it checks.

    ``held`` gets the lock and the log, to release them later. Raises AdminError if another run has
    locked the folder, or it cannot be written.
    """

    @functools.wraps(verify)
    def verify_checkpoint_directory(save_dir: str) -> None:
        try:
            verify(save_dir)
            held.enter_context(_lock(save_dir))
        except OSError as error:
            reason = error.strerror or error
            raise AdminError(f"{save_dir}: checkpoints cannot be written there: {reason}") from None
        _clear(save_dir)
        held.enter_context(run_log.kept_in(save_dir))

    return verify_checkpoint_directory


def _releasing(
    call_main: Callable[..., None], held: ExitStack, verify: Callable[[str], None]
) -> Callable[..., None]:
    """Wrap ``call_main`` to release what ``held`` contains (lock, log) when the run ends.

    ``verify`` is fairseq's own check of the folder, which a run with --no-save keeps.
    """

    @functools.wraps(call_main)
    def called(cfg: DictConfig, main: Callable[..., None], **kwargs: Any) -> None:
        with held:
            if OmegaConf.select(cfg, "checkpoint.no_save"):
                held.enter_context(replaced(checkpoint_utils, verify_checkpoint_directory=verify))
            call_main(cfg, main, **kwargs)

    return called


@contextmanager
def _lock(save_dir: str) -> Iterator[None]:
    """Keep other training runs out of ``save_dir`` inside the block, by a lock on its file .lock.

    The lock belongs to this process only: data-loading workers that it forks do not inherit the
    lock, and cannot keep it when the process is killed. Raises AdminError if another process has
    the lock, OSError if no file can be created.
    """
    path = os.path.join(save_dir, LOCK)
    descriptor = _locked(path, save_dir)
    while not _is_open_at(path, descriptor):  # removed by a run that has just ended
        os.close(descriptor)
        descriptor = _locked(path, save_dir)
    try:
        yield
    finally:
        with suppress(OSError):
            os.remove(path)
        os.close(descriptor)


def _locked(path: str, save_dir: str) -> int:
    """Open the lock file ``path``, creating it if needed, lock it and return its file descriptor.

    Raises AdminError if another process has the lock. If the file system has no locks, only warns.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # depending on the system
        os.close(descriptor)
        raise AdminError(
            f"{save_dir}: another training run is using it; wait for its end, "
            "or choose another --save-dir"
        ) from None
    except OSError as error:
        logger.warning(
            f"{save_dir}: its file system has no locks ({error.strerror}), "
            "so nothing keeps a second run out"
        )
    return descriptor


def is_taken(save_dir: str) -> bool:
    """Return whether a training run, at least one of this machine, is using ``save_dir`` now."""
    try:
        descriptor = os.open(os.path.join(save_dir, LOCK), os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EACCES, errno.EAGAIN)
    finally:
        os.close(descriptor)
    return False


def _is_open_at(path: str, descriptor: int) -> bool:
    """Return whether ``path`` exists and is the file opened as ``descriptor``."""
    return os.path.exists(path) and os.path.samestat(os.stat(path), os.fstat(descriptor))


def _clear(save_dir: str) -> None:
    """Remove temporary files of checkpoints that killed runs were writing to ``save_dir``."""
    for name in os.listdir(save_dir):
        temporary = TEMPORARY.fullmatch(name)
        if temporary and temporary[1].startswith("checkpoint"):
            clear_remains(os.path.join(save_dir, temporary[1]))
        elif re.fullmatch(TEMPORARY_OF_FAIRSEQ, name):
            with suppress(OSError):
                os.remove(os.path.join(save_dir, name))
