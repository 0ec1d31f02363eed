"""Open and remove files, with an error in one line if a folder, pipe or link is in their place."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

from admin_fairseq.errors import AdminError
from admin_fairseq.files import open_regular


def open_input(path: str) -> BinaryIO:
    """Open a file for reading in binary; raise AdminError if it is no regular file or cannot be
    read."""
    try:
        return open_regular(path)
    except OSError as error:
        raise AdminError(f"{path}: cannot be read: {error.strerror or error}") from None


def open_own(path: str) -> BinaryIO:
    """Open a file for reading and writing in binary; create the file if it does not exist.

    Raises OSError if ``path`` is a link, or anything else that is not a regular file.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return os.fdopen(descriptor, "r+b")


def remove(path: str) -> None:
    """Remove a file if it exists; raise AdminError if it cannot be removed."""
    try:
        os.remove(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise AdminError(f"{path}: cannot be removed: {error.strerror or error}") from None


def identity(path: str) -> list[int]:
    """Return a file's size in bytes and its modification time in nanoseconds.

    Comparing both shows, without reading the file, whether it was replaced.
    """
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns]
