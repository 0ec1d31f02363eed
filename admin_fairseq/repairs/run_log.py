"""A log of every training run, and its statistics, in --save-dir, whatever the screen shows.

Seen in fairseq 0.12.2 and fairseq-fixed 0.12.3.1: --log-file gets the messages of
``fairseq_cli.train``, from every worker and without times, but not those of models, trainers and
checkpoints; and on a terminal, where a bar shows them, training losses are not logged at all
(``logging.progress_bar``).
"""

from __future__ import annotations

import errno
import functools
import json
import logging
import math
import os
import sys
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import Any, Callable, Iterator, Optional, Union, cast

from fairseq.logging import progress_bar
from fairseq.trainer import Trainer
from omegaconf import OmegaConf

from admin_fairseq.errors import AdminError
from admin_fairseq.repairs import private

logger = logging.getLogger(__name__)

NAME = "train.log"
STATISTICS = "train.jsonl"
TRAINING = "fairseq_cli.train"  # the logger of fairseq-train
FORMAT = "%(asctime)s | %(levelname)s | %(name)s | %(message)s"  # fairseq's own
FORMATTER = logging.Formatter(FORMAT, "%Y-%m-%d %H:%M:%S")
ENCODED: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace"}

LOGGED = {
    progress_bar.JsonProgressBar: ("log", "print"),
    progress_bar.SimpleProgressBar: ("log", "print"),
    progress_bar.TqdmProgressBar: ("print",),
    progress_bar.NoopProgressBar: (),
}
"""Bar of --log-format → its methods that log what they show."""


class Statistics(dict):
    """The content of a line of train.jsonl: a type of message that no other log accepts."""


class RunLog(logging.FileHandler):
    """Appends to the log of a run, starting with the record of the run's options.

    That record is the first to tell whether the run may write files: with --no-save there is no
    log. Raises AdminError if the file cannot be written.
    """

    begun = False

    def __init__(self, path: str) -> None:
        super().__init__(path, delay=True, **ENCODED)
        self.setFormatter(FORMATTER)

    def filter(self, record: logging.LogRecord) -> bool:
        message: Any = record.msg
        if record.name == TRAINING and OmegaConf.is_config(message):
            self.begun = not OmegaConf.select(message, "checkpoint.no_save")
            if self.begun and self.stream is None:
                self.stream = self._opened()  # now, before any update
        return self.begun and self.takes(record) and super().filter(record)

    def takes(self, record: logging.LogRecord) -> bool:
        return not isinstance(record.msg, Statistics)

    def handleError(self, record: logging.LogRecord) -> None:
        """Stop logging with one warning, for example on a full disk: the run can go on without."""
        self.begun = False
        logger.warning(f"{self.baseFilename}: the log ends here: {sys.exc_info()[1]}")

    def close(self) -> None:
        with suppress(OSError):  # the last lines could not be written
            super().close()

    def _opened(self) -> TextIOWrapper:
        try:
            if os.path.lexists(self.baseFilename) and not os.path.isfile(self.baseFilename):
                raise OSError(errno.EINVAL, "not a regular file")
            stream = open(self.baseFilename, "a", **ENCODED)  # noqa: SIM115  close() does
            if not _ends_a_line(self.baseFilename):  # the run was killed while writing
                stream.write("\n")
        except OSError as error:
            reason = error.strerror or error
            raise AdminError(f"{self.baseFilename}: cannot be written: {reason}") from None
        return stream


class StatisticsLog(RunLog):
    """One JSON object per line for each set of statistics, with its time and origin."""

    def takes(self, record: logging.LogRecord) -> bool:
        return isinstance(record.msg, Statistics)

    def format(self, record: logging.LogRecord) -> str:
        time, statistics = FORMATTER.formatTime(record, FORMATTER.datefmt), cast(Any, record.msg)
        return json.dumps({"time": time, "log": record.name, **statistics}, ensure_ascii=False)


def apply() -> None:
    """Add to the log losses that fairseq only shows, and the error that ended training."""
    for bar, logged in LOGGED.items():
        for method in ("log", "print"):
            setattr(bar, method, _recorded(getattr(bar, method), method in logged))
    Trainer.train_step = _logging_errors(Trainer.train_step)


@contextmanager
def kept_in(save_dir: str) -> Iterator[None]:
    """Append what is logged inside to train.log and train.jsonl in ``save_dir``."""
    logs = [RunLog(os.path.join(save_dir, NAME)), StatisticsLog(os.path.join(save_dir, STATISTICS))]
    for log in logs:
        logging.getLogger().addHandler(log)
    try:
        yield
    finally:
        for log in logs:
            logging.getLogger().removeHandler(log)
            log.close()


def _ends_a_line(path: str) -> bool:
    with open(path, "rb") as file:
        if not file.seek(0, os.SEEK_END):
            return True
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def _write(name: str, message: Union[str, Statistics], level: int = logging.INFO) -> None:
    """Write to the run's logs only, as if by a logger of this name."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, RunLog):
            handler.handle(logging.LogRecord(name, level, __file__, 0, message, None, None))


def _recorded(show: Callable[..., None], logged: bool) -> Callable[..., None]:
    """A bar's method that also writes its statistics to the logs, unless already ``logged``."""

    @functools.wraps(show)
    def shown(bar: Any, stats: Any, tag: Optional[str] = None, step: Optional[int] = None) -> None:
        show(bar, stats, tag, step)
        if tag is None:
            return
        texts = private.texts(bar, stats)
        if not logged:
            _write(tag, f"{bar.prefix}: {private.in_one_line(bar, texts)}")
        numbers = {name: number(text) for name, text in texts.items()}
        _write(tag, Statistics(epoch=bar.epoch, **numbers))

    return shown


def number(text: str) -> Union[int, float, str]:
    """The number that fairseq shows for a statistic, or the text if JSON has no such number."""
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text) if math.isfinite(kind(text)) else text
    return text


def _logging_errors(train_step: Callable[..., Any]) -> Callable[..., Any]:
    """``Trainer.train_step`` that also logs errors, whose traceback goes to the screen."""

    @functools.wraps(train_step)
    def step(*args: Any, **kwargs: Any) -> Any:
        try:
            return train_step(*args, **kwargs)
        except Exception as error:
            _write(__name__, f"{type(error).__name__}: {error}", logging.ERROR)
            raise

    return step
