"""The command ``admin-fairseq SUBCOMMAND``, and all that it prints.

It is entered from ``admin_fairseq_cli``, which shows its help and version without importing it.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import warnings
from argparse import ArgumentParser, Namespace
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any, Callable, Iterable, Iterator, NoReturn, Optional, Sequence

from admin_fairseq.errors import AdminError, exit_in_one_line, printable, writable
from admin_fairseq_cli import SUBCOMMANDS, parser_of


class Parser(ArgumentParser):
    """Tells a mistake in one line, and helps in every encoding."""

    def format_help(self) -> str:
        return writable(super().format_help(), sys.stdout)

    def error(self, message: str) -> NoReturn:
        raise AdminError(f"{message} (see {self.prog} --help)")


class Printable(logging.Formatter):
    """Messages may hold names of files; each stays one line."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


COMMANDS = {
    name: import_module(f"admin_fairseq.commands.{name.replace('-', '_')}").COMMAND
    for name in SUBCOMMANDS
}
"""Subcommand → what it does."""


def _parser() -> ArgumentParser:
    parser, subparsers = parser_of(Parser)
    for name, command in COMMANDS.items():
        command.add_options(subparsers[name])
    return parser


def _parsed(words: list[str]) -> Namespace:
    """The options; ``words`` of it are what is meant for another program."""
    name = next((word for word in words if word in COMMANDS), None)
    if name is None or not COMMANDS[name].passes_words_on:
        return _parser().parse_args(words)
    end = words.index("--") if "--" in words else len(words)
    args = _parser().parse_args(words[:end])
    args.words = words[end + 1 :]
    return args


@contextmanager
def _messages_on_stderr() -> Iterator[None]:
    """Show what the package logs as it stands; of others, and of warnings, nothing."""
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
    """Let SIGTERM end the command as an interrupt does: temporary files go."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only there may signals be handled
        return
    old = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)


def _readable(text: str) -> str:
    """``text`` as a terminal can show it, whatever the names of files in it."""
    return writable("\n".join(map(printable, text.split("\n"))), sys.stdout)


def _show(text: str, **how: Any) -> None:
    """Print, also where standard output is closed; raises AdminError where there is no room."""
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
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # as a shell says it


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Run the subcommand that ``argv`` (default: the command line) names."""
    with exit_in_one_line(), _quiet_when_interrupted():
        args = _parsed(sys.argv[1:] if argv is None else list(argv))
        command, debug = COMMANDS[args.command], args.debug
        del args.command, args.debug
        perform(partial(command.run, args), command.verbatim, debug)


def perform(work: Callable[[], Iterable[str]], verbatim: bool = False, debug: bool = False) -> None:
    """Print the lines of ``work``, as a command of its own does.

    An error ends the process with one line; so does one that nobody foresaw, unless ``debug`` asks
    for its traceback.
    """
    with exit_in_one_line(), _quiet_when_interrupted(), _explaining_the_unforeseen(debug):
        with _messages_on_stderr(), _cleaning_up_when_told_to_end():
            for text in work():
                _show(text if verbatim else _readable(text))
        _show("", end="", flush=True)


@contextmanager
def _explaining_the_unforeseen(debug: bool) -> Iterator[None]:
    """Let what happens to a command that is no AdminError become one, unless ``debug``."""
    try:
        yield
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except AdminError:
        raise
    except Exception as error:
        if debug:
            raise
        raise AdminError(
            f"unforeseen {type(error).__name__}: {error} (please report it, with what "
            "admin-fairseq --debug shows)"
        ) from None


if __name__ == "__main__":
    main()
