"""The subcommand ``admin-fairseq translate``: translate standard input with an exported model."""

from __future__ import annotations

import io
import logging
import sys
import time
from argparse import ArgumentParser, Namespace
from typing import Any, Iterable, Iterator

from tqdm import tqdm

from admin_fairseq.bounds import spelled
from admin_fairseq.commands.command import Command, finite
from admin_fairseq.errors import AdminError
from admin_fairseq.serving.translate import BOUNDS, TranslationOptions, translate

logger = logging.getLogger(__name__)
LONGEST_LINE = 1 << 20  # characters


def _add_options(parser: ArgumentParser) -> None:
    def add(name: str, help: str, **how: Any) -> None:
        default = getattr(TranslationOptions, name)
        shown = "" if default is None else " (default: %(default)s)"
        how.setdefault("type", BOUNDS.get(name))
        parser.add_argument(spelled(name), default=default, help=help + shown, **how)

    parser.add_argument("model", metavar="OUTDIR", help="folder that admin-fairseq export wrote")
    add(
        "sentencepiece_model",
        "subword model, if OUTDIR has none; without any, input and output are subword pieces",
        metavar="FILE",
    )
    add("beam", "beam width")
    add("lenpen", "length penalty: <1 favours shorter, >1 longer sentences", type=finite)
    add("max_len_b", "longest translation, in pieces")
    add("max_tokens", "pieces in a batch")
    add("device", "where to translate", choices=("auto", "cpu", "cuda"))
    add("inter_threads", "workers (default: one for every core or GPU)")
    add("intra_threads", "threads of every worker")


def _standard_input() -> Iterator[str]:
    """Yield the lines of standard input without line ends, decoded as UTF-8 whatever the locale;
    raise AdminError for other text or a line that is too long."""
    file = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8", newline="\n")
    try:
        while line := file.readline(LONGEST_LINE):
            if len(line) == LONGEST_LINE:
                raise AdminError(f"standard input: a line has {LONGEST_LINE:,} characters or more")
            yield line.rstrip("\r\n")
    except UnicodeDecodeError:
        raise AdminError("standard input is not UTF-8") from None


def _run(args: Namespace) -> Iterable[str]:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    translations = translate(_standard_input(), TranslationOptions(**vars(args)))
    start, number = time.perf_counter(), 0
    # no progress bar on a terminal that shows the translations
    hidden = True if sys.stdout.isatty() else None
    for translation in tqdm(translations, unit=" sentences", disable=hidden):
        yield translation
        number += 1
    seconds = time.perf_counter() - start
    speed = number / seconds
    logger.info("Translated %d sentences in %.1fs (%.2f sentences/s)", number, seconds, speed)


COMMAND = Command(_add_options, _run, verbatim=True)
