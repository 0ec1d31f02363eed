"""What fairseq-train and fairseq-hydra-train print, read back line by line."""

from __future__ import annotations

import ast
import json
import re
import statistics
from dataclasses import dataclass, field
from typing import Any, Iterable, Mapping, NamedTuple, Optional

from admin_fairseq.errors import AdminError

# "2026-11-23 00:36:24 | INFO | valid | ..." or hydra's "[2026-11-23 00:37:26,066][valid][INFO] - "
MESSAGE = re.compile(r"(?:\| INFO \| (\S+) \| |\]\[(\S+)\]\[INFO\] - )(.*)")
STATISTIC = re.compile(r"(\w+)[= ]([^\s,|=]+)(?=,| \||$)")
END_OF_EPOCH = re.compile(r"end of epoch (\d+)")
OVERFLOW = ("Minimum loss scale reached", "gradients are Nan/Inf")


class Point(NamedTuple):
    """A loss, in bits without label smoothing, after so many updates."""

    update: int
    loss: float
    wall: float  # seconds since its start
    start: int  # which start of fairseq-train logged it


@dataclass
class Log:
    """A training log; one with several starts tells what the run came to in the end."""

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
        """The median over pairs of intervals; fairseq's own updates per second have two digits."""
        times = [
            (b.wall - a.wall) / (b.update - a.update)
            for a, b in zip(self.training, self.training[1:])
            if a.start == b.start and b.wall > a.wall
        ]
        return statistics.median(times) if times else None


def read_log(path: str) -> Log:
    """Raises AdminError where the file cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return parse(file)
    except OSError as error:
        raise AdminError(f"{path}: cannot be read: {error.strerror}") from None


def parse(lines: Iterable[str]) -> Log:
    log = Log()
    for line in lines:
        message = MESSAGE.search(line) if line.endswith("\n") else None  # else half written
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
    """The first validation set, which chooses the best checkpoint, is logged under its name."""
    return str(config.get("dataset", {}).get("valid_subset") or "valid").split(",")[0]


def _take_point(
    log: Log, points: list[Point], later: list[Point], statistics: Mapping[str, str]
) -> None:
    """Add to ``points``; whatever is known from this update on was repeated by a resumed run.

    ``later`` are the points that fairseq logs only after those of the same update.
    """
    try:
        update = int(statistics["num_updates"])
        loss = statistics.get("nll_loss") or statistics["loss"]  # cross_entropy has no nll_loss
        point = Point(update, float(loss), float(statistics.get("wall", "nan")), log.starts)
    except (KeyError, ValueError):
        return
    for known in (points, later):
        while known and known[-1].update >= update:
            known.pop()
    points.append(point)


def _statistics(name: str, text: str) -> dict[str, str]:
    """Statistic → its text, for every --log-format."""
    if not text.startswith("{"):
        return dict(STATISTIC.findall(text))
    try:
        return {key.replace(f"{name}_", "", 1): str(x) for key, x in json.loads(text).items()}
    except ValueError:
        return {}


def configuration(text: str) -> dict[str, dict[str, Any]]:
    """The sections of the printed configuration; {} if it is none.

    fairseq prints a part that is no dictionary as ``Namespace(...)``, and choices as bare words,
    ``'init_type': adaptive-auto``: it is parsed, never evaluated.
    """
    try:
        sections = _value(ast.parse(text.strip(), mode="eval").body, text.strip())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    return {name: section for name, section in sections.items() if isinstance(section, dict)}


def _value(node: ast.AST, text: str) -> Any:
    if isinstance(node, ast.Dict):
        return {_value(k, text): _value(v, text) for k, v in zip(node.keys, node.values) if k}
    if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "Namespace":
        return {keyword.arg: _value(keyword.value, text) for keyword in node.keywords}
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.get_source_segment(text, node)
