"""Read the configuration and the losses of a run from the log of fairseq-train or
fairseq-hydra-train, which ``repairs.run_log`` writes to train.log.

train.jsonl, which has the losses alone, is for other programs.
"""

from __future__ import annotations

import ast
import io
import json
import math
import os
import re
import statistics
from dataclasses import dataclass, field
from typing import Annotated, Any, Iterable, Mapping, NamedTuple, Optional

import msgspec

from admin_fairseq.errors import AdminError, shortened
from admin_fairseq.files import open_regular

LARGEST = 256 << 20  # the most bytes of a log: enough for a line for each of a million updates
LONGEST_LINE = 1 << 18  # characters; the line of the configuration has some 20,000
SPAN = 5.0  # seconds over which an update is timed
LONGEST = 1e9  # seconds, some thirty years; longer spans are ignored as invalid
LARGEST_LOSS = (2 - 2.0**-23) * 2.0**127  # the largest float32, in which fairseq computes losses

# "2026-11-23 00:36:24 | INFO | valid | ..." or hydra's "[2026-11-23 00:37:26,066][valid][INFO] - "
MESSAGE = re.compile(r"(?:\| INFO \| (\S{1,99}) \| |\]\[(\S{1,99})\]\[INFO\] - )(.*)")
STATISTIC = re.compile(r"\b(\w{1,99})[= ]([^\s,|=]{1,99})(?=,| \||$)")
END_OF_EPOCH = re.compile(r"end of epoch (\d{1,9})\b")
OVERFLOW = ("Minimum loss scale reached", "gradients are Nan/Inf")


class LossStatistics(msgspec.Struct):
    """The loss and its time in a line of fairseq's log; nll_loss is missing with the criterion
    cross_entropy, whose loss is not smoothed."""

    num_updates: Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
    loss: float
    nll_loss: Optional[float] = None
    wall: float = math.nan


class Point(NamedTuple):
    """A point of a loss curve: the loss in bits per token, without label smoothing, after
    ``update`` updates."""

    update: int
    loss: float
    wall: float  # seconds since fairseq-train was started or resumed
    start: int  # 1 for the first start of fairseq-train in this log, 2 after the first resumption


@dataclass
class Log:
    """What the log of a run says: configuration, losses, and how training ended.

    If a run was resumed, updates that were made twice appear once, with the later losses.
    """

    # of the last start that logged an update; without any, of the last start
    config: dict[str, dict[str, Any]] = field(default_factory=dict)
    latest: dict[str, dict[str, Any]] = field(default_factory=dict)  # of the last start
    intervals: list[Point] = field(default_factory=list)  # training loss of each log interval
    means: list[Point] = field(default_factory=list)  # mean training loss of each epoch
    validation: list[Point] = field(default_factory=list)
    starts: int = 0  # how often fairseq-train was started or resumed
    trained: int = 0  # the last of these starts that logged an update
    epochs: int = 0  # completed epochs
    done: bool = False  # whether the last start that trained logged "done training"
    overflowed: bool = False  # whether fairseq stopped because gradients overflowed

    @property
    def training(self) -> list[Point]:
        """The curve of the training loss: a point for each log interval, or for each epoch if the
        run is shorter than its log interval."""
        return self.intervals or self.means

    @property
    def updates(self) -> int:
        """The number of the last update that was logged."""
        return max((point.update for point in (*self.training, *self.validation)), default=0)

    @property
    def complete(self) -> bool:
        """Whether training was finished: the log says so, or max_update or max_epoch is reached."""
        return self.done or self.reached(self.config.get("optimization", {}))

    def reached(self, limits: Mapping[str, Any]) -> bool:
        """Return whether training reached max_update or max_epoch of ``limits``, 0 for no limit."""
        given = ((self.updates, limits.get("max_update")), (self.epochs, limits.get("max_epoch")))
        return any(
            isinstance(limit, (int, float)) and 0 < limit <= number for number, limit in given
        )

    @property
    def seconds_per_update(self) -> Optional[float]:
        """The median time of an update in seconds, over spans of at least ``SPAN`` seconds; None
        for a shorter run.

        It is measured over spans because fairseq logs whole seconds; the updates per second that
        fairseq logs itself have only two digits.
        """
        times, first = [], None
        for point in self.training:
            if first is None or point.start != first.start:
                first = point
            elif SPAN <= point.wall - first.wall < LONGEST:
                times.append((point.wall - first.wall) / (point.update - first.update))
                first = point
        return statistics.median(times) if times else None

    @property
    def hours(self) -> Optional[float]:
        """The time of the updates that the log has, in hours; None for a very short run."""
        seconds = self.seconds_per_update
        if seconds is None:
            return None
        first, second, *_ = (point.update for point in self.training)
        before = min(first, second - first)  # updates whose mean loss is the first point
        return seconds * (self.training[-1].update - first + before) / 3600


def read_log(path: str) -> Log:
    """Read the log file of a run; raise AdminError if the file cannot be read, or is larger than
    256 MiB."""
    try:
        with io.TextIOWrapper(open_regular(path), encoding="utf-8", errors="replace") as file:
            if os.fstat(file.fileno()).st_size > LARGEST:
                raise AdminError(f"{path}: larger than {LARGEST >> 20} MiB; is it a log?")
            return parse(iter(lambda: file.readline(LONGEST_LINE), ""))
    except OSError as error:
        raise AdminError(f"{path}: cannot be read: {error.strerror or error}") from None


def parse(lines: Iterable[str]) -> Log:
    """Collect the configuration and the losses from the lines (with their ends) of a run's log."""
    log = Log()
    for line in lines:
        # a line without an end is half written, or part of one that is too long
        message = MESSAGE.search(line) if line.endswith("\n") else None
        if message:
            _take(log, message[1] or message[2], message[3])
        elif any(words in line for words in OVERFLOW):
            log.overflowed = True
    return log


def _take(log: Log, name: str, text: str) -> None:
    """Update ``log`` from one message: ``text``, which fairseq's logger ``name`` has logged."""
    if name == "fairseq_cli.train":
        _take_event(log, text)
    elif name == "train_inner":
        _take_point(log, log.intervals, log.validation, _statistics(name, text))
    elif name == "train":
        _take_point(log, log.means, [], _statistics(name, text))
    elif name == _validation_name(log.latest):
        _take_point(log, log.validation, [], _statistics(name, text))


def _take_event(log: Log, text: str) -> None:
    """Record in ``log`` a message of fairseq_cli.train: the configuration, which each start prints,
    the end of an epoch, or the end of training."""
    if text.startswith("{"):
        log.latest = configuration(text) or log.latest
        log.starts += 1
        if not log.trained:
            log.config, log.done, log.overflowed = log.latest, False, False
    elif text.startswith("done training"):
        log.done = True
    elif ended := END_OF_EPOCH.match(text):
        log.epochs = int(ended[1])


def _validation_name(config: Mapping) -> str:
    """Return the name under which fairseq logs the first validation set, the set that decides which
    checkpoint is the best."""
    return str(config.get("dataset", {}).get("valid_subset") or "valid").split(",")[0]


def _take_point(
    log: Log, points: list[Point], later: list[Point], texts: Mapping[str, Any]
) -> None:
    """Read a loss from the statistics ``texts`` and append it to the curve ``points``.

    First remove the points of this update and later ones from ``points`` and ``later``: the run was
    resumed and repeats these updates. ``later`` is a curve whose point of an update fairseq logs
    after the point in ``points``.
    """
    try:
        found = msgspec.convert(texts, LossStatistics, strict=False)
    except msgspec.ValidationError:
        return
    loss = found.loss if found.nll_loss is None else found.nll_loss
    if LARGEST_LOSS < abs(loss) < math.inf:
        return
    for known in (points, later):
        while known and known[-1].update >= found.num_updates:
            known.pop()
    if log.trained != log.starts:  # others were refused, say, and changed nothing
        log.config, log.trained = log.latest, log.starts
        log.done = log.overflowed = False
    points.append(Point(found.num_updates, loss, found.wall, log.starts))


def _statistics(name: str, text: str) -> dict[str, Any]:
    """Parse the statistics of a log line, in any --log-format, into name → value as text."""
    if not text.startswith("{"):
        return dict(STATISTIC.findall(text))
    try:
        content = json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError):
        return {}
    return {key.replace(f"{name}_", "", 1): value for key, value in content.items()}


def configuration(text: str) -> dict[str, dict[str, Any]]:
    """Parse the configuration that fairseq prints: section → option → value; {} for other text.

    fairseq prints some parts as ``Namespace(...)``, and choices without quotation marks, as in
    ``'init_type': adaptive-auto``. The text is parsed as Python but never executed.
    """
    text = text.strip()
    try:
        sections = _value(ast.parse(text, mode="eval").body, text.encode())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    found = sections if isinstance(sections, dict) else {}
    return {name: section for name, section in found.items() if isinstance(section, dict)}


def _value(node: ast.expr, source: bytes) -> Any:
    """Convert an expression to its value; one that is no literal becomes its text in ``source``."""
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values)
        return {str(_value(k, source)): _value(v, source) for k, v in pairs if k}
    if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "Namespace":
        return {k.arg: _value(k.value, source) for k in node.keywords if k.arg}
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError):  # not a literal, or a set of unhashable values
        value = source[node.col_offset : node.end_col_offset].decode(errors="replace")
    return shortened(value) if isinstance(value, str) else value
