"""A log of every training run in its --save-dir, whatever the screen shows.

Seen in fairseq 0.12.2 and fairseq-fixed 0.12.3.1: --log-file takes what ``fairseq_cli.train`` says
and not what models, trainers and checkpoints do, without times, from every worker; and on a
terminal, where a bar shows them, training losses are not logged at all
(``logging.progress_bar``).
"""

from __future__ import annotations

import errno
import functools
import logging
import os
from contextlib import contextmanager
from typing import Any, Callable, Iterator, Optional, TextIO

from fairseq.logging import progress_bar
from fairseq.trainer import Trainer
from omegaconf import OmegaConf

from admin_fairseq.errors import AdminError

NAME = "train.log"
TRAINING = "fairseq_cli.train"  # the logger of fairseq-train
FORMAT = "%(asctime)s | %(levelname)s | %(name)s | %(message)s"  # fairseq's own
TIME = "%Y-%m-%d %H:%M:%S"


class RunLog(logging.FileHandler):
    """Appends to the log of a run, from the record with the run's options on.

    That record is the first to tell whether the run is to write anything: with --no-save there
    is no log. Raises AdminError where the file cannot be written.
    """

    begun = False

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name == TRAINING and OmegaConf.is_config(record.msg):
            self.begun = not OmegaConf.select(record.msg, "checkpoint.no_save")
        return self.begun and super().filter(record)

    def _open(self) -> TextIO:
        try:
            if os.path.lexists(self.baseFilename) and not os.path.isfile(self.baseFilename):
                raise OSError(errno.EINVAL, "not a regular file")
            stream = super()._open()
            if not _ends_a_line(self.baseFilename):  # killed while it wrote
                stream.write("\n")
        except OSError as error:
            reason = error.strerror or error
            raise AdminError(f"{self.baseFilename}: cannot be written: {reason}") from None
        return stream


def apply() -> None:
    """Let the log have the losses that are not logged, and the error that ended the training."""
    for bar, methods in (
        (progress_bar.TqdmProgressBar, ("log",)),
        (progress_bar.NoopProgressBar, ("log", "print")),
    ):
        for method in methods:
            setattr(bar, method, _recorded(getattr(bar, method)))
    Trainer.train_step = _telling_its_end(Trainer.train_step)


@contextmanager
def kept_in(save_dir: str) -> Iterator[None]:
    """While this lasts, append what is logged to train.log in ``save_dir``."""
    log = RunLog(
        os.path.join(save_dir, NAME), encoding="utf-8", errors="backslashreplace", delay=True
    )
    log.setFormatter(logging.Formatter(FORMAT, TIME))
    logging.getLogger().addHandler(log)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(log)
        log.close()


def _ends_a_line(path: str) -> bool:
    with open(path, "rb") as file:
        if not file.seek(0, os.SEEK_END):
            return True
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def _write(name: str, text: str, level: int = logging.INFO) -> None:
    """Write to the run's log alone, as if a logger of this name had said it."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, RunLog):
            handler.handle(logging.LogRecord(name, level, __file__, 0, text, None, None))


def _recorded(show: Callable[..., None]) -> Callable[..., None]:
    """A bar's method, whose statistics go to the log as well."""

    @functools.wraps(show)
    def shown(bar: Any, stats: Any, tag: Optional[str] = None, step: Optional[int] = None) -> None:
        show(bar, stats, tag, step)
        if tag is not None:
            _write(tag, f"{bar.prefix}: {bar._str_commas(bar._format_stats(stats))}")

    return shown


def _telling_its_end(train_step: Callable[..., Any]) -> Callable[..., Any]:
    """``Trainer.train_step``, whose error goes to the log: its traceback goes to the screen."""

    @functools.wraps(train_step)
    def step(*args: Any, **kwargs: Any) -> Any:
        try:
            return train_step(*args, **kwargs)
        except Exception as error:
            _write(__name__, f"{type(error).__name__}: {error}", logging.ERROR)
            raise

    return step
