"""Run commands as child processes, and end them when this process is interrupted."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import signal
import sys
from contextlib import contextmanager, suppress
from typing import IO, Any, Iterator, Optional, Sequence

from admin_fairseq.errors import AdminError

Words = Sequence[str]
"""A command as the list of its arguments, the program first."""
SCRIPTS = os.path.dirname(sys.executable)
PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), SCRIPTS))
"""PATH with this Python's folder of scripts added: fairseq-train lies there, even if the virtual
environment is not activated."""
SPECIAL = re.compile(r"((?<![^:=])~|^#|[^\w@%+=:./#~\x7f-\U0010ffff-])", re.ASCII)
"""A regular expression for the characters that need a backslash in a shell."""


def as_line(words: Words) -> str:
    """Join a command's arguments to one line of shell, quoted as bash's ``printf '%q '`` does.

    The quoting is bash's because earlier versions of this project, shell scripts, wrote such a line
    into the folder of a run.
    """
    return "".join(f"{_quoted(word)} " for word in words)


def _quoted(word: str) -> str:
    """Quote one argument for a shell."""
    if not word or not word.isprintable():
        return shlex.quote(word)
    return SPECIAL.sub(r"\\\1", word)


def found(program: str) -> Optional[str]:
    """Find the path of a program on PATH or in this Python's folder of scripts; None if there is no
    such program."""
    return shutil.which(program, path=PATH)


@contextmanager
def output_file(path: str) -> Iterator[IO[bytes]]:
    """Create a file, and its folder, for the output of a command, and yield it open for writing.

    Raises AdminError if that is impossible."""
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        file = open(path, "wb")  # noqa: SIM115  closed below
    except OSError as error:
        raise AdminError(f"{path}: cannot be written: {error.strerror or error}") from None
    with file:
        yield file


def run(words: Words, **how: Any) -> int:
    """Run a command, wait until it ends, and return its exit status, or 128 + N after signal N.

    ``how`` has keyword arguments for subprocess; without any, the command prints where this process
    does. If this process is interrupted, it ends the command and the processes started by it.
    """
    return asyncio.run(run_beside(words, **how))


async def run_beside(words: Words, **how: Any) -> int:
    """Run a command, wait until it ends, and return its exit status (128 + N after signal N).

    A coroutine, so that several commands can run at a time. If it is cancelled, it ends the command
    and the processes started by the command.
    """
    program = found(words[0])
    if program is None:
        raise AdminError(f"{words[0]}: no such command on PATH")
    process = await asyncio.create_subprocess_exec(
        *(program, *words[1:]),
        stdin=asyncio.subprocess.DEVNULL,
        start_new_session=True,  # a process group of its own, which can be ended as a whole
        **how,
    )
    try:
        status = await process.wait()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            await process.wait()
    return status if status >= 0 else 128 - status
