"""What the subcommands that turn lines into lines share: options, standard input, progress."""

from __future__ import annotations

import io
import logging
import sys
import time
from argparse import ArgumentParser
from typing import Any, Callable, Iterable, Iterator

from tqdm import tqdm

from admin_fairseq.bounds import spelled
from admin_fairseq.errors import AdminError
from admin_fairseq.serving.engine import BOUNDS, EngineOptions

logger = logging.getLogger(__name__)
LONGEST_LINE = 1 << 20  # characters


def add_model(parser: ArgumentParser, options: type[EngineOptions]) -> Callable[..., None]:
    """Add the model's folder and its subword model, and return a function that adds one option.

    It is called with an attribute of ``options``, whose value is the default, and a help text.
    """

    def add(name: str, help: str, **how: Any) -> None:
        default = getattr(options, name)
        shown = "" if default is None else " (default: %(default)s)"
        how.setdefault("type", BOUNDS.get(name))
        parser.add_argument(spelled(name), default=default, help=help + shown, **how)

    parser.add_argument("model", metavar="OUTDIR", help="folder that admin-fairseq export wrote")
    add(
        "sentencepiece_model",
        "subword model, if OUTDIR has none; without any, input and output are subword pieces",
        metavar="FILE",
    )
    return add


def add_device(add: Callable[..., None], what: str) -> None:
    """Add --device, --inter-threads and --intra-threads with ``add``; ``what`` is done there."""
    add("device", f"where to {what}", choices=("auto", "cpu", "cuda"))
    add("inter_threads", "workers (default: one for every core or GPU)")
    add("intra_threads", "threads of every worker")


def standard_input() -> Iterator[str]:
    """Yield the lines of standard input without line ends, decoded as UTF-8 whatever the locale;
    raise AdminError for other text or a line that is too long."""
    if sys.stdin is None:
        raise AdminError("standard input is closed")
    file = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8", newline="\n")
    try:
        while line := file.readline(LONGEST_LINE):
            if len(line) == LONGEST_LINE:
                raise AdminError(f"standard input: a line has {LONGEST_LINE:,} characters or more")
            yield line.rstrip("\r\n")
    except UnicodeDecodeError:
        raise AdminError("standard input is not UTF-8") from None


def write_utf8() -> None:
    """Have standard output encode text as UTF-8, whatever the locale."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")


def reported(lines: Iterable[str], done: str, unit: str) -> Iterator[str]:
    """Yield ``lines``, show progress on a terminal, and log how many ``unit`` were ``done``."""
    start, number = time.perf_counter(), 0
    # no progress bar on a terminal that shows the lines
    hidden = True if sys.stdout.isatty() else None
    for line in tqdm(lines, unit=f" {unit}", disable=hidden):
        yield line
        number += 1
    seconds = time.perf_counter() - start
    logger.info(
        "%s %d %s in %.1fs (%.2f %s/s)", done, number, unit, seconds, number / seconds, unit
    )
