"""The exception for users' mistakes, and functions that make text safe to print."""

from __future__ import annotations

import unicodedata
from contextlib import contextmanager
from typing import IO, Iterator

LONGEST_MESSAGE = 2000  # characters: enough for a path, not for a file's content
UNSAFE = {"Cc", "Cf", "Cn", "Cs", "Zl", "Zp"}
"""Unicode categories of the characters that ``printable`` escapes.

They control a terminal, end a line, reverse the direction of text, cannot be encoded, or are
unassigned, which XML forbids.
"""


class AdminError(Exception):
    """A mistake in options or files, described in one line for the user.

    In Python it is an ordinary exception. In a command it ends the process with the text ``line``,
    through ``exit_in_one_line`` in admin-fairseq's commands and ``repairs.uncaught`` in fairseq's.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(shortened(message)))
        self.message = message

    def __reduce__(self) -> tuple[type[AdminError], tuple[str]]:
        return type(self), (self.message,)  # for pickling between processes

    @property
    def line(self) -> str:
        """The message as a command prints it, with the prefix ``admin-fairseq: error:``."""
        return f"admin-fairseq: error: {self}"


@contextmanager
def exit_in_one_line() -> Iterator[None]:
    """End the process when the block raises AdminError: one line on stderr, status 1."""
    try:
        yield
    except AdminError as error:
        raise SystemExit(error.line) from None


@contextmanager
def blaming(path: str) -> Iterator[None]:
    """Prefix an AdminError raised in the block with ``path``, the file that has the mistake."""
    try:
        yield
    except AdminError as error:
        raise AdminError(f"{path}: {error.message}") from None


def printable(text: str) -> str:
    """Return ``text`` with escapes (``\\x1b``) for the characters that are not safe to print.

    File names and file contents may contain anything, such as codes that change a terminal's title.
    """
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in UNSAFE else c
        for c in text
    )


def writable(text: str, stream: IO[str]) -> str:
    """Return ``text``, with escapes (``\\u03c9`` for ω) where ``stream`` cannot encode it."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def shortened(text: str, longest: int = LONGEST_MESSAGE) -> str:
    """Return ``text``; leave out its middle if ``text`` is longer than ``longest`` characters."""
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]} ... ({len(text) - longest} characters left out) ... {text[-half:]}"
