"""Running commands as processes, which end when this one does."""

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

SCRIPTS = os.path.dirname(sys.executable)
PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), SCRIPTS))
"""With this Python's folder of scripts, as its environment may not be activated."""
SPECIAL = re.compile(r"((?<![^:=])~|^#|[^\w@%+=:./#~\x7f-\U0010ffff-])", re.ASCII)
"""Characters that need a backslash in a shell."""


def as_line(words: Words) -> str:
    """One line that a shell reads as these words, quoted as bash's ``printf '%q '`` does.

    The shell scripts of earlier versions wrote such a line into the folder of a run.
    """
    return "".join(f"{_quoted(word)} " for word in words)


def _quoted(word: str) -> str:
    if not word or not word.isprintable():
        return shlex.quote(word)
    return SPECIAL.sub(r"\\\1", word)


def found(program: str) -> Optional[str]:
    return shutil.which(program, path=PATH)


@contextmanager
def output_file(path: str) -> Iterator[IO[bytes]]:
    """A file for a command to write to while it runs."""
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        file = open(path, "wb")  # noqa: SIM115  closed below
    except OSError as error:
        raise AdminError(f"{path}: cannot be written: {error.strerror or error}") from None
    with file:
        yield file


def run(words: Words, **how: Any) -> int:
    """Run a command to its end and return its exit status, as a shell would.

    ``how`` goes to subprocess; by default stdout and stderr are inherited. When interrupted, it
    ends the command and all that the command has started.
    """
    return asyncio.run(run_beside(words, **how))


async def run_beside(words: Words, **how: Any) -> int:
    """``run``, for several commands at a time."""
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
