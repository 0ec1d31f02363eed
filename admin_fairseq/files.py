"""Read files that may contain anything; write files and folders completely or not at all."""

from __future__ import annotations

import errno
import fcntl
import glob
import json
import math
import os
import re
import secrets
import shutil
import stat
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, BinaryIO, Iterator, Mapping, TypeVar

import msgspec

from admin_fairseq.errors import AdminError, blaming, shortened

Schema = TypeVar("Schema")
Files = Mapping[str, bytes]  # name of a file → its content

MARK = ".admin-fairseq"
TEMPORARY = re.compile(rf"\.(.+)-[0-9a-f]{{8}}{re.escape(MARK)}")
"""Matches the name of a temporary file or folder of ours, and of nobody else's, as it is removed if
it is left; the group is the name of what was being written."""

LARGEST_TEXT = 16 << 20
"""Largest number of bytes read of a text file; profiles and descriptions are far smaller."""


def open_regular(path: str) -> BinaryIO:
    """Open the file ``path`` for reading; raise OSError at once if it is not a regular file.

    Opening a FIFO (named pipe), or reading a device, might never return.
    """
    file = open(path, "rb", opener=_at_once)  # noqa: SIM115  the caller closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file", path)
    return file


def _at_once(path: str, flags: int) -> int:
    """Open ``path`` without waiting, as ``open``'s opener: a FIFO without a writer would block."""
    return os.open(path, flags | os.O_NONBLOCK)


def read_text(path: str, largest: int = LARGEST_TEXT) -> str:
    """Return a UTF-8 file's text; raise AdminError if it is unreadable, not UTF-8 or too large."""
    try:
        with open_regular(path) as file:
            content = file.read(largest + 1)
    except OSError as error:
        raise AdminError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(content) > largest:
        raise AdminError(f"{path}: larger than {largest >> 20} MiB; is it the right file?")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise AdminError(f"{path}: not UTF-8 text; is it the right file?") from None


def read_json(path: str, schema: type[Schema], what: str) -> Schema:
    """Read a JSON file and return its content as ``schema`` (any type that msgspec accepts).

    ``what`` names the kind of file in errors. Raises AdminError if the file cannot be read or its
    content does not fit ``schema`` (see ``check_json``).
    """
    text = read_text(path)
    with blaming(path):
        return check_json(text, schema, what)


def check_json(text: str, schema: type[Schema], what: str) -> Schema:
    """Parse JSON ``text`` and return its content as ``schema`` (any type that msgspec accepts).

    Types are strict: neither text nor a truth value passes for a number. Raises AdminError, which
    calls the text not a ``what``, for invalid JSON, duplicate keys, other types, and numbers beyond
    a double's range or 64 bits.
    """
    try:
        content = json.loads(
            text,
            object_pairs_hook=_unique_keys,
            parse_constant=_finite,
            parse_float=_finite,
            parse_int=_of_64_bits,
        )
        json.dumps(content, ensure_ascii=False).encode()  # fails for half a surrogate pair
        return msgspec.convert(content, schema)
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        reason = shortened(str(error), 300)
        raise AdminError(f"not {what}, or a damaged one: {reason}") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build the dictionary of a JSON object; raise ValueError if a key occurs twice."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} occurs twice")
        found[key] = value
    return found


def _finite(text: str) -> float:
    """Return the number that ``text`` spells; raise ValueError if it is infinite or NaN."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{shortened(text, 30)} is not a finite number")
    return number


def _of_64_bits(text: str) -> int:
    """Return the whole number that ``text`` spells; raise ValueError if it exceeds 64 bits."""
    number = int(text) if len(text) <= 20 else 1 << 63
    if not -(1 << 63) <= number < 1 << 63:
        raise ValueError(f"{shortened(text, 30)} is too large a number")
    return number


def require_folder(path: str) -> None:
    """Raise AdminError if the folder ``path`` does not exist."""
    if not os.path.isdir(path):
        raise AdminError(f"{path}: no such folder")


def refuse_to_overwrite(path: str, force: bool) -> None:
    """Raise AdminError if ``path`` exists, unless ``force`` (--force) is set."""
    if os.path.lexists(path) and not force:
        raise AdminError(f"{path}: already exists; use --force to replace it")


@contextmanager
def replacing(path: str, force: bool = True) -> Iterator[BinaryIO]:
    """Yield a temporary file beside ``path``, and rename it to ``path`` when the block succeeds.

    If the process is killed, ``path`` is the complete new file or still the old one, and the next
    call removes the temporary file. Raises AdminError if the file cannot be written, or if ``path``
    exists at the end of the block and ``force`` is not set.
    """
    folder = os.path.dirname(os.path.abspath(path))
    temporary = None
    try:
        os.makedirs(folder, exist_ok=True)
        _refuse_folder(path)
        clear_remains(path)
        descriptor, temporary = _new_temporary(path)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            refuse_to_overwrite(path, force)
            os.replace(temporary, path)
    except OSError as error:
        raise AdminError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            with suppress(FileNotFoundError):
                os.remove(temporary)


def _refuse_folder(path: str) -> None:
    """Raise OSError if ``path`` is a folder, before any work is spent on the content of a file."""
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(os.lstat(path).st_mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), path)


@contextmanager
def replacing_folder(path: str, force: bool = True) -> Iterator[str]:
    """Yield a temporary folder beside ``path``, and rename it to ``path`` when the block succeeds.

    If the process is killed, ``path`` is the complete new folder or still the old one, and the next
    call removes the temporary folder. Raises AdminError if the folder cannot be written, or if
    ``path`` exists at the end of the block and ``force`` is not set.
    """
    path = os.path.abspath(path)
    descriptor = workplace = None
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        clear_remains(path)
        descriptor, workplace = _new_temporary(path, folder=True)
        new, old = os.path.join(workplace, "new"), os.path.join(workplace, "old")
        os.mkdir(new)
        yield new
        refuse_to_overwrite(path, force)
        if os.path.lexists(path):
            os.rename(path, old)
        try:
            os.rename(new, path)
        except OSError:
            if os.path.lexists(old):
                os.rename(old, path)
            raise
    except OSError as error:
        raise AdminError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        if workplace is not None:
            shutil.rmtree(workplace, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)


def clear_remains(path: str) -> None:
    """Remove the temporary files and folders that killed processes left while writing ``path``.

    A process that is still writing holds a lock, which the kernel releases when the process dies.
    On file systems without locks nothing is removed, since the files might be in use.
    """
    pattern = f"{glob.escape(_temporary_prefix(path))}{'[0-9a-f]' * 8}{MARK}"
    for left in glob.glob(pattern):
        with suppress(OSError):
            descriptor = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                new, old = os.path.join(left, "new"), os.path.join(left, "old")
                if os.path.exists(old) and not os.path.lexists(path):
                    os.rename(new, path)  # killed between the two renames of replacing_folder
                shutil.rmtree(left) if os.path.isdir(left) else os.remove(left)
            finally:
                os.close(descriptor)


def _temporary_prefix(path: str) -> str:
    """Return how the paths of all temporary files for ``path`` begin: hidden names beside it."""
    folder, name = os.path.split(os.path.abspath(path))
    short = os.fsdecode(os.fsencode(name)[:230])  # plus 24 characters of ours; 255 are allowed
    return os.path.join(folder, f".{short}-")


def _new_temporary(path: str, folder: bool = False) -> tuple[int, str]:
    """Create a temporary file or folder for ``path``; return its locked descriptor and its path.

    Its permissions follow the umask, as those of any new file do.
    """
    while True:
        temporary = f"{_temporary_prefix(path)}{secrets.token_hex(4)}{MARK}"
        if folder:
            os.mkdir(temporary)
            descriptor = os.open(temporary, os.O_RDONLY)
        else:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with suppress(OSError):  # without locks, clear_remains removes nothing
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.path.exists(temporary):  # not removed as remains before it was locked
            return descriptor, temporary
        os.close(descriptor)


def write_json(content: Any, path: str, force: bool = True) -> None:
    """Write ``content`` to ``path`` as JSON, completely or not at all; may raise AdminError."""
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    with replacing(path, force) as file:
        file.write(text.encode())


def write_all(files: Files, folder: str, force: bool) -> None:
    """Write all ``files`` to ``folder``, or none of them if one cannot be written.

    Raises AdminError in that case, and if a file exists and ``force`` is not set.
    """
    with ExitStack() as stack:
        for name, content in files.items():
            file = stack.enter_context(replacing(os.path.join(folder, name), force))
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # a full disk fails here, before any file gets its name
