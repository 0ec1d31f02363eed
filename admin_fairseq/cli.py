"""The command ``admin-fairseq SUBCOMMAND``; the only module that prints.

``admin_fairseq_cli`` is the installed entry point: it calls ``main``, but answers --help and
--version itself, without importing this module.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import textwrap
import threading
import warnings
from argparse import ArgumentParser, HelpFormatter, Namespace
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any, Callable, Iterable, Iterator, NoReturn, Optional, Sequence

from admin_fairseq.errors import AdminError, exit_in_one_line, printable, writable
from admin_fairseq_cli import SUBCOMMANDS, parser_of


class Unbroken(HelpFormatter):
    """A help formatter that does not break options at their hyphens, so that they can be copied."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return textwrap.indent("\n".join(self._split_lines(text, width - len(indent))), indent)


class Parser(ArgumentParser):
    """An argument parser that reports mistakes in one line and prints help in any encoding."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"formatter_class": Unbroken, **options})

    def format_help(self) -> str:
        return writable(super().format_help(), sys.stdout)

    def error(self, message: str) -> NoReturn:
        raise AdminError(f"{message} (see {self.prog} --help)")


class Printable(logging.Formatter):
    """A log formatter that keeps each message on one line, even with odd file names in it."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


COMMANDS = {
    name: import_module(f"admin_fairseq.commands.{name.replace('-', '_')}").COMMAND
    for name in SUBCOMMANDS
}
"""Name of a subcommand → its ``Command`` object (options and function)."""


def _parser() -> ArgumentParser:
    parser, subparsers = parser_of(Parser)
    for name, command in COMMANDS.items():
        command.add_options(subparsers[name])
    return parser


def _parsed(words: list[str]) -> Namespace:
    """Parse the command's arguments ``words``; those after ``--`` become ``args.words``, unparsed.

    Only subcommands with ``passes_words_on``, which start another program, accept a ``--``.
    """
    name = next((word for word in words if word in COMMANDS), None)
    if name is None or not COMMANDS[name].passes_words_on:
        return _parser().parse_args(words)
    end = words.index("--") if "--" in words else len(words)
    args = _parser().parse_args(words[:end])
    args.words = words[end + 1 :]
    return args


@contextmanager
def _messages_on_stderr() -> Iterator[None]:
    """Show the package's log messages as plain text on standard error inside the ``with`` block.

    Warnings are hidden, and so are other packages' log messages below errors.
    """
    logger, handler = logging.getLogger("admin_fairseq"), logging.StreamHandler()
    handler.setFormatter(Printable())
    chatter = [(other, other.level) for other in map(logging.getLogger, ("", "fairseq", "hydra"))]
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for other, _ in chatter:
        other.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for other, level in chatter:
            other.setLevel(level)
        logger.propagate = True
        logger.removeHandler(handler)


@contextmanager
def _cleaning_up_when_told_to_end() -> Iterator[None]:
    """Exit on SIGTERM by an exception, as on an interrupt, so that temporary files are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can handle signals
        return
    old = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)


def _readable(text: str) -> str:
    """Return ``text`` with escapes for characters that a terminal cannot show or would obey.

    File names in the text may contain any character.
    """
    return writable("\n".join(map(printable, text.split("\n"))), sys.stdout)


def _show(text: str, **how: Any) -> None:
    """Print ``text``; raise AdminError if standard output fails (full disk, wrong encoding)."""
    try:
        print(text, **how)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise AdminError(f"standard output: {error.strerror or error}") from None
    except UnicodeEncodeError as error:
        raise AdminError(
            f"standard output: its encoding {error.encoding} has no {error.object[error.start]!r}; "
            "set PYTHONIOENCODING=utf-8"
        ) from None


@contextmanager
def _quiet_when_interrupted() -> Iterator[None]:
    """End the process with status 130, without a traceback, when the user presses Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # as in shells


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Run the subcommand named in the arguments ``argv`` (default: those of the process)."""
    with exit_in_one_line(), _quiet_when_interrupted():
        if sys.stdout is None:
            raise AdminError("standard output is closed")
        args = _parsed(sys.argv[1:] if argv is None else list(argv))
        command, debug = COMMANDS[args.command], args.debug
        del args.command, args.debug
        perform(partial(command.run, args), command.verbatim, debug, command.end)


def perform(
    work: Callable[[], Iterable[str]],
    verbatim: bool = False,
    debug: bool = False,
    end: str = "\n",
) -> None:
    """Call ``work`` and print the lines that it yields, with a command's handling of errors.

    An error ends the process with one line on standard error. ``verbatim`` prints lines without
    escaping characters that are unsafe in a terminal; ``debug`` shows tracebacks of unexpected
    errors. ``end`` follows each line; parts of lines ("") are shown at once.
    """
    with exit_in_one_line(), _quiet_when_interrupted(), _reporting_unexpected_errors(debug):
        with _messages_on_stderr(), _cleaning_up_when_told_to_end():
            for text in work():
                _show(text if verbatim else _readable(text), end=end, flush=not end)
        _show("", end="", flush=True)


@contextmanager
def _reporting_unexpected_errors(debug: bool) -> Iterator[None]:
    """Turn unexpected exceptions into AdminErrors that ask for a report, unless ``debug`` is set.

    A BrokenPipeError is ignored: the program that read the output, such as ``head``, has ended.
    """
    try:
        yield
    except BrokenPipeError:  # the reader of our output, such as head, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except AdminError:
        raise
    except Exception as error:
        if debug:
            raise
        raise AdminError(
            f"unexpected {type(error).__name__}: {error} (please report it, with the output "
            "of admin-fairseq --debug)"
        ) from None


if __name__ == "__main__":
    main()
