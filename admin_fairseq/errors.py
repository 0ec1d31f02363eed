"""The one exception that users see, and text that is safe to show them."""

from __future__ import annotations

import unicodedata
from contextlib import contextmanager
from typing import IO, Iterator

LONGEST_MESSAGE = 2000  # characters: room for a path, not for what lies in a file
UNSAFE = {"Cc", "Cf", "Cn", "Cs", "Zl", "Zp"}
"""Unicode categories of what steers a terminal, ends a line, reverses its direction, does not
encode, or is no character, which XML forbids."""


class AdminError(Exception):
    """A mistake in options or files, told in one line.

    A notebook catches it as any other exception. A command lets it through to where it was
    entered, which ends the process with ``line``: ``exit_in_one_line`` in ours,
    ``repairs.uncaught`` in fairseq's.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(shortened(message)))
        self.message = message

    def __reduce__(self) -> tuple[type[AdminError], tuple[str]]:
        return type(self), (self.message,)  # as it comes from another process

    @property
    def line(self) -> str:
        """What a command says of it."""
        return f"admin-fairseq: error: {self}"


@contextmanager
def exit_in_one_line() -> Iterator[None]:
    """End the process where an error comes this far: its line to standard error, status 1."""
    try:
        yield
    except AdminError as error:
        raise SystemExit(error.line) from None


@contextmanager
def blaming(path: str) -> Iterator[None]:
    """Let errors inside say that ``path`` is the file where the mistake lies."""
    try:
        yield
    except AdminError as error:
        raise AdminError(f"{path}: {error.message}") from None


def printable(text: str) -> str:
    """``text`` with escapes (``\\x1b``) for what is not safe to print.

    File names and the contents of files may hold anything, such as codes that make a terminal
    write to its title.
    """
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in UNSAFE else c
        for c in text
    )


def writable(text: str, stream: IO[str]) -> str:
    """``text`` with escapes (``\\u03c9``) for what the stream's encoding does not have, as ω."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def shortened(text: str, longest: int = LONGEST_MESSAGE) -> str:
    """``text`` with its middle left out if it is longer than ``longest`` characters."""
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]} ... ({len(text) - longest} characters left out) ... {text[-half:]}"
