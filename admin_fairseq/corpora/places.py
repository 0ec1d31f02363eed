"""Opening and removing files under whose names anything may lie."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

from admin_fairseq.errors import AdminError
from admin_fairseq.files import open_regular


def open_input(path: str) -> BinaryIO:
    """``path`` for reading; raises AdminError where it is no file, or cannot be read."""
    try:
        return open_regular(path)
    except OSError as error:
        raise AdminError(f"{path}: cannot be read: {error.strerror or error}") from None


def open_own(path: str) -> BinaryIO:
    """A file for reading and writing, made where there is none.

    Raises OSError for anything but a regular file under that name, even for a link to one.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return os.fdopen(descriptor, "r+b")


def remove(path: str) -> None:
    """Remove a file that may not be there; raises AdminError where it stays."""
    try:
        os.remove(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise AdminError(f"{path}: cannot be removed: {error.strerror or error}") from None


def identity(path: str) -> list[int]:
    """Size and time of change: another file under the same name has others."""
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns]
