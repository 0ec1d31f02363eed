"""One training run at a time in a --save-dir, which it finds without remains of killed ones.

Seen in fairseq 0.12.2 and fairseq-fixed 0.12.3.1 (``checkpoint_utils``): nothing keeps two runs
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
from admin_fairseq.files import clear_remains
from admin_fairseq.repairs import run_log
from admin_fairseq.repairs.stand_in import replaced

LOCK = ".lock"
TEMPORARY = r"\.(checkpoint.*)-[a-z0-9_]{8}"  # as files.replacing names it
TEMPORARY_OF_FAIRSEQ = r"checkpoint.*\.pt\.tmp"

logger = logging.getLogger(__name__)


def apply() -> None:
    """Let the run take its --save-dir where fairseq checks it, and leave it at its end.

    It is taken by the first worker alone, before anything is written, and not by runs with
    --no-save.
    """
    held = ExitStack()
    atexit.register(held.close)  # in a process that fairseq has started
    verify = checkpoint_utils.verify_checkpoint_directory
    checkpoint_utils.verify_checkpoint_directory = _taking(verify, held)
    distributed_utils.call_main = _leaving(distributed_utils.call_main, held, verify)


def _taking(verify: Callable[[str], None], held: ExitStack) -> Callable[[str], None]:
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


def _leaving(
    call_main: Callable[..., None], held: ExitStack, verify: Callable[[str], None]
) -> Callable[..., None]:
    @functools.wraps(call_main)
    def called(cfg: DictConfig, main: Callable[..., None], **kwargs: Any) -> None:
        with held:
            if OmegaConf.select(cfg, "checkpoint.no_save"):
                held.enter_context(replaced(checkpoint_utils, verify_checkpoint_directory=verify))
            call_main(cfg, main, **kwargs)

    return called


@contextmanager
def _lock(save_dir: str) -> Iterator[None]:
    """Keep other runs out of ``save_dir`` for as long as this lasts.

    The lock is the process's own: workers that it forks to load data do not have it, and cannot
    hold it when the process is killed. Raises AdminError where another process has it, OSError
    where no file can be made.
    """
    path = os.path.join(save_dir, LOCK)
    descriptor = _locked(path, save_dir)
    while not _lies_at(path, descriptor):  # a run that ended just now has removed it
        os.close(descriptor)
        descriptor = _locked(path, save_dir)
    try:
        yield
    finally:
        with suppress(OSError):
            os.remove(path)
        os.close(descriptor)


def _locked(path: str, save_dir: str) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # systems say the one or the other
        os.close(descriptor)
        raise AdminError(
            f"{save_dir}: another training run uses it; wait for its end, "
            "or choose another --save-dir"
        ) from None
    except OSError as error:
        logger.warning(
            f"{save_dir}: its file system has no locks ({error.strerror}), "
            "so nothing keeps a second run out of it"
        )
    return descriptor


def is_taken(save_dir: str) -> bool:
    """Whether a training run, of this machine at least, has ``save_dir`` at this moment."""
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


def _lies_at(path: str, descriptor: int) -> bool:
    return os.path.exists(path) and os.path.samestat(os.stat(path), os.fstat(descriptor))


def _clear(save_dir: str) -> None:
    """Remove what killed runs left of checkpoints that they were about to write."""
    for name in os.listdir(save_dir):
        temporary = re.fullmatch(TEMPORARY, name)
        if temporary:
            clear_remains(os.path.join(save_dir, temporary[1]))
        elif re.fullmatch(TEMPORARY_OF_FAIRSEQ, name):
            with suppress(OSError):
                os.remove(os.path.join(save_dir, name))
