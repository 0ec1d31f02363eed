"""The logs of fairseq-train and fairseq-hydra-train, read line by line."""

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

LARGEST = 256 << 20  # bytes of a log: a million updates, each with its line
LONGEST_LINE = 1 << 18  # characters; the configuration has some 20,000
SPAN = 5.0
LARGEST_LOSS = (2 - 2.0**-23) * 2.0**127  # fairseq computes it in 32 bits

# "2026-11-23 00:36:24 | INFO | valid | ..." or hydra's "[2026-11-23 00:37:26,066][valid][INFO] - "
MESSAGE = re.compile(r"(?:\| INFO \| (\S{1,99}) \| |\]\[(\S{1,99})\]\[INFO\] - )(.*)")
STATISTIC = re.compile(r"\b(\w{1,99})[= ]([^\s,|=]{1,99})(?=,| \||$)")
END_OF_EPOCH = re.compile(r"end of epoch (\d{1,9})\b")
OVERFLOW = ("Minimum loss scale reached", "gradients are Nan/Inf")


class Statistics(msgspec.Struct):
    """The statistics of a log line that concern the loss; cross_entropy has no nll_loss."""

    num_updates: Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
    loss: float
    nll_loss: Optional[float] = None
    wall: float = math.nan


class Point(NamedTuple):
    """A loss after ``update`` updates, in bits, without label smoothing."""

    update: int
    loss: float
    wall: float  # seconds since fairseq-train was started
    start: int  # the number of that start


@dataclass
class Log:
    """A training log; if a run was resumed, what it came to in the end."""

    config: dict[str, dict[str, Any]] = field(default_factory=dict)  # the last start's
    training: list[Point] = field(default_factory=list)  # per log interval
    validation: list[Point] = field(default_factory=list)
    starts: int = 0
    epochs: int = 0  # complete ones
    done: bool = False
    overflowed: bool = False

    @property
    def updates(self) -> int:
        return max((point.update for point in (*self.training, *self.validation)), default=0)

    @property
    def complete(self) -> bool:
        """Whether fairseq ended by itself, or had nothing left to do."""
        limits = self.config.get("optimization", {})
        reached = ((self.updates, "max_update"), (self.epochs, "max_epoch"))
        given = ((limits.get(name), number) for number, name in reached)
        return self.done or any(
            isinstance(limit, (int, float)) and 0 < limit <= number for limit, number in given
        )

    @property
    def seconds_per_update(self) -> Optional[float]:
        """The median over spans of at least ``SPAN`` seconds, None for a shorter run.

        fairseq logs whole seconds, and its own rate of updates has only two digits.
        """
        times, first = [], None
        for point in self.training:
            if first is None or point.start != first.start:
                first = point
            elif SPAN <= point.wall - first.wall < math.inf:
                times.append((point.wall - first.wall) / (point.update - first.update))
                first = point
        return statistics.median(times) if times else None


def read_log(path: str) -> Log:
    """Raises AdminError if the file cannot be read, or is too large for a log."""
    try:
        with io.TextIOWrapper(open_regular(path), encoding="utf-8", errors="replace") as file:
            if os.fstat(file.fileno()).st_size > LARGEST:
                raise AdminError(f"{path}: larger than {LARGEST >> 20} MiB; is it a log?")
            return parse(iter(lambda: file.readline(LONGEST_LINE), ""))
    except OSError as error:
        raise AdminError(f"{path}: cannot be read: {error.strerror or error}") from None


def parse(lines: Iterable[str]) -> Log:
    log = Log()
    for line in lines:
        # other lines are half written, or parts of one that is too long
        message = MESSAGE.search(line) if line.endswith("\n") else None
        if message:
            _take(log, message[1] or message[2], message[3])
        elif any(words in line for words in OVERFLOW):
            log.overflowed = True
    return log


def _take(log: Log, name: str, text: str) -> None:
    if name == "fairseq_cli.train":
        _take_event(log, text)
    elif name == "train_inner":
        _take_point(log, log.training, log.validation, _statistics(name, text))
    elif name == _validation_name(log.config):
        _take_point(log, log.validation, [], _statistics(name, text))


def _take_event(log: Log, text: str) -> None:
    if text.startswith("{"):
        log.config = configuration(text) or log.config
        log.starts += 1
        log.done = log.overflowed = False
    elif text.startswith("done training"):
        log.done = True
    elif ended := END_OF_EPOCH.match(text):
        log.epochs = int(ended[1])


def _validation_name(config: Mapping) -> str:
    """The log name of the first validation set, which decides the best checkpoint."""
    return str(config.get("dataset", {}).get("valid_subset") or "valid").split(",")[0]


def _take_point(
    log: Log, points: list[Point], later: list[Point], texts: Mapping[str, Any]
) -> None:
    """Add to ``points``, and drop those from this update on, which a resumed run has repeated.

    ``later`` are points that fairseq logs only after ``points`` of the same update.
    """
    try:
        found = msgspec.convert(texts, Statistics, strict=False)
    except msgspec.ValidationError:
        return
    loss = found.loss if found.nll_loss is None else found.nll_loss
    if LARGEST_LOSS < abs(loss) < math.inf:
        return
    for known in (points, later):
        while known and known[-1].update >= found.num_updates:
            known.pop()
    points.append(Point(found.num_updates, loss, found.wall, log.starts))


def _statistics(name: str, text: str) -> dict[str, Any]:
    """Statistic → its text, whatever the --log-format."""
    if not text.startswith("{"):
        return dict(STATISTIC.findall(text))
    try:
        content = json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError):
        return {}
    return {key.replace(f"{name}_", "", 1): value for key, value in content.items()}


def configuration(text: str) -> dict[str, dict[str, Any]]:
    """The sections of the printed configuration; {} if ``text`` is something else.

    fairseq prints some parts as ``Namespace(...)``, and choices as bare words,
    ``'init_type': adaptive-auto``. The text is parsed, never evaluated.
    """
    text = text.strip()
    try:
        sections = _value(ast.parse(text, mode="eval").body, text.encode())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    found = sections if isinstance(sections, dict) else {}
    return {name: section for name, section in found.items() if isinstance(section, dict)}


def _value(node: ast.expr, source: bytes) -> Any:
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
