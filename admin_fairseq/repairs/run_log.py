"""Log every training run to train.log, and its statistics to train.jsonl, in --save-dir.

With --log-dynamics, dynamics.jsonl is written beside them (``admin_fairseq/dynamics.py``).

Seen in fairseq 0.12.2 and fairseq-fixed 0.12.3.1: --log-file gets the messages of
``fairseq_cli.train``, from every worker and without times, but not those of models, trainers and
checkpoints. On a terminal, a progress bar shows training losses and they are not logged at all
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
from omegaconf import DictConfig, OmegaConf

from admin_fairseq.errors import AdminError
from admin_fairseq.repairs import private

logger = logging.getLogger(__name__)

NAME = "train.log"
STATISTICS = "train.jsonl"
DYNAMICS = "dynamics.jsonl"
TRAINING = "fairseq_cli.train"  # the logger of fairseq-train
FORMAT = "%(asctime)s | %(levelname)s | %(name)s | %(message)s"  # fairseq's own
CHUNK = 1 << 20  # bytes read at a time
FORMATTER = logging.Formatter(FORMAT, "%Y-%m-%d %H:%M:%S")
ENCODED: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace"}

LOGGED = {
    progress_bar.JsonProgressBar: ("log", "print"),
    progress_bar.SimpleProgressBar: ("log", "print"),
    progress_bar.TqdmProgressBar: ("print",),
    progress_bar.NoopProgressBar: (),
}
"""Progress bar (--log-format) → those of its methods that also log what they show."""


class Statistics(dict):
    """The content of one line of train.jsonl, as the message of a log record.

    A type of its own, so that ``StatisticsLog`` writes these messages, and other logs do not.
    """


class Dynamics(Statistics):
    """The content of one line of dynamics.jsonl."""


class RunLog(logging.FileHandler):
    """Log handler that appends a run's messages to train.log, from the record of its options on.

    Earlier records are not written, as the options tell whether the run may write files: with
    --no-save there is no log. Raises AdminError if the file cannot be opened.
    """

    begun = False

    def __init__(self, path: str) -> None:
        super().__init__(path, delay=True, **ENCODED)
        self.setFormatter(FORMATTER)

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write ``record``; open the log file when the run's options are logged.

        Raises AdminError if the file cannot be opened.
        """
        message: Any = record.msg
        if record.name == TRAINING and OmegaConf.is_config(message):
            self.begun = self.wanted(message)
            if self.begun and self.stream is None:
                self.stream = self._opened()  # now, before any update
        return self.begun and self.takes(record) and super().filter(record)

    def wanted(self, run: DictConfig) -> bool:
        """Return whether the run, given its options, is to have this log."""
        return not OmegaConf.select(run, "checkpoint.no_save")

    def takes(self, record: logging.LogRecord) -> bool:
        """Return whether this log writes messages like ``record``: all but statistics."""
        return not isinstance(record.msg, Statistics)

    def handleError(self, record: logging.LogRecord) -> None:
        """Stop logging, with one warning, if a write fails (a full disk); training continues."""
        self.begun = False
        logger.warning(f"{self.baseFilename}: the log ends here: {sys.exc_info()[1]}")

    def close(self) -> None:
        """Close the file, even if its last lines cannot be written."""
        with suppress(OSError):  # the last lines could not be written
            super().close()

    def _opened(self) -> TextIOWrapper:
        """Open the file for appending, after a whole line.

        Raises AdminError if the file cannot be written.
        """
        try:
            if os.path.lexists(self.baseFilename) and not os.path.isfile(self.baseFilename):
                raise OSError(errno.EINVAL, "not a regular file")
            stream = open(self.baseFilename, "a", **ENCODED)  # noqa: SIM115  close() does
            whole = _length_of_whole_lines(self.baseFilename)
            if whole < os.path.getsize(self.baseFilename):  # the run was killed while writing
                self.mend(stream, whole)
        except OSError as error:
            reason = error.strerror or error
            raise AdminError(f"{self.baseFilename}: cannot be written: {reason}") from None
        return stream

    def mend(self, stream: TextIOWrapper, whole: int) -> None:
        """End the last line, which is incomplete; the lines before it have ``whole`` bytes."""
        stream.write("\n")


class StatisticsLog(RunLog):
    """Log handler that appends statistics to train.jsonl, as one JSON object per line."""

    def mend(self, stream: TextIOWrapper, whole: int) -> None:
        """Remove the last line: a part of an object is not JSON."""
        stream.truncate(whole)

    def takes(self, record: logging.LogRecord) -> bool:
        """Return whether ``record`` holds statistics, the only messages that this log writes."""
        return type(record.msg) is Statistics

    def format(self, record: logging.LogRecord) -> str:
        """Format statistics as one line of JSON, with their time and the name of the logger."""
        time, statistics = FORMATTER.formatTime(record, FORMATTER.datefmt), cast(Any, record.msg)
        return json.dumps({"time": time, "log": record.name, **statistics}, ensure_ascii=False)


class DynamicsLog(StatisticsLog):
    """Log handler that appends a run's training dynamics to dynamics.jsonl, if it measures them."""

    def wanted(self, run: DictConfig) -> bool:
        """Return whether the run asks for --log-dynamics, and saves anything at all."""
        return super().wanted(run) and bool(OmegaConf.select(run, "model.log_dynamics"))

    def takes(self, record: logging.LogRecord) -> bool:
        """Return whether ``record`` holds dynamics, the only messages that this log writes."""
        return isinstance(record.msg, Dynamics)


LOGS: dict[str, type[RunLog]] = {NAME: RunLog, STATISTICS: StatisticsLog, DYNAMICS: DynamicsLog}
"""Name of a file in --save-dir → the log handler that writes it."""


def apply() -> None:
    """Patch fairseq to log losses that it only shows, and the error that ends training.

    Both go to the run's own logs (``RunLog``, ``StatisticsLog``) only.
    """
    for bar, logged in LOGGED.items():
        for method in ("log", "print"):
            setattr(bar, method, _recorded(getattr(bar, method), method in logged))
    Trainer.train_step = _logging_errors(Trainer.train_step)


@contextmanager
def kept_in(save_dir: str) -> Iterator[None]:
    """Append what is logged inside the block to the files of ``LOGS`` in ``save_dir``."""
    logs = [log(os.path.join(save_dir, name)) for name, log in LOGS.items()]
    for log in logs:
        logging.getLogger().addHandler(log)
    try:
        yield
    finally:
        for log in logs:
            logging.getLogger().removeHandler(log)
            log.close()


def _length_of_whole_lines(path: str) -> int:
    """Return the number of bytes in the file up to the end of its last complete line."""
    with open(path, "rb") as file:
        for start in reversed(range(0, os.path.getsize(path), CHUNK)):
            file.seek(start)
            end = file.read(CHUNK).rfind(b"\n")
            if end >= 0:
                return start + end + 1
    return 0


def write(name: str, message: Union[str, Statistics], level: int = logging.INFO) -> None:
    """Write ``message`` to the run's logs only, not the screen, as if from the logger ``name``."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, RunLog):
            handler.handle(logging.LogRecord(name, level, __file__, 0, message, None, None))


def _recorded(show: Callable[..., None], logged: bool) -> Callable[..., None]:
    """Wrap a progress bar's method ``show`` to write the statistics it shows to the run's logs.

    train.jsonl always gets them; train.log only if fairseq does not log their text itself
    (``logged``).
    """

    @functools.wraps(show)
    def shown(bar: Any, stats: Any, tag: Optional[str] = None, step: Optional[int] = None) -> None:
        show(bar, stats, tag, step)
        if tag is None or isinstance(stats, Dynamics):  # the latter are in dynamics.jsonl
            return
        texts = private.texts(bar, stats)
        if not logged:
            write(tag, f"{bar.prefix}: {private.in_one_line(bar, texts)}")
        numbers = {name: number(text) for name, text in texts.items()}
        write(tag, Statistics(epoch=bar.epoch, **numbers))

    return shown


def number(text: str) -> Union[int, float, str]:
    """Convert a statistic's text, as fairseq shows it, to a finite number if it is one.

    Other text is returned unchanged, as JSON has no infinity or NaN.
    """
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text) if math.isfinite(kind(text)) else text
    return text


def _logging_errors(train_step: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Trainer.train_step`` to write its exceptions to the run's logs before they propagate.

    Otherwise only their traceback on the screen would tell why training ended.
    """

    @functools.wraps(train_step)
    def step(*args: Any, **kwargs: Any) -> Any:
        try:
            return train_step(*args, **kwargs)
        except Exception as error:
            write(__name__, f"{type(error).__name__}: {error}", logging.ERROR)
            raise

    return step
