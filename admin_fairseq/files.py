"""Writing files and folders whole or not at all."""

from __future__ import annotations

import glob
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from typing import Any, BinaryIO, Iterator

from admin_fairseq.errors import AdminError


def refuse_to_overwrite(path: str, force: bool) -> None:
    """Raise AdminError if ``path`` is there and ``force`` was not asked for."""
    if os.path.lexists(path) and not force:
        raise AdminError(f"{path}: is there already; use --force to replace it")


@contextmanager
def replacing(path: str, force: bool = True) -> Iterator[BinaryIO]:
    """A temporary file beside ``path`` that is renamed to it when the block ends well.

    Killed at any moment, it leaves the whole file or the old one. Raises AdminError where the
    file cannot be written, and without ``force`` where one has come to be there.
    """
    folder = os.path.dirname(os.path.abspath(path))
    temporary = None
    try:
        os.makedirs(folder, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=f".{os.path.basename(path)}-")
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        refuse_to_overwrite(path, force)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise AdminError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.remove(temporary)


@contextmanager
def replacing_folder(path: str, force: bool = True) -> Iterator[str]:
    """A temporary folder beside ``path`` that takes its place when the block ends well.

    Raises AdminError where it cannot be written, and without ``force`` where one has come to be
    there.
    """
    path = os.path.abspath(path)
    parent, name = os.path.split(path)
    workplace = None
    try:
        os.makedirs(parent, exist_ok=True)
        workplace = tempfile.mkdtemp(dir=parent, prefix=f".{name}-")
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


def clear_remains(path: str) -> None:
    """Remove what a killed process left of its try to write ``path``, a file or a folder."""
    folder, name = os.path.split(os.path.abspath(path))
    random = "[a-z0-9_]" * 8  # as tempfile makes names
    for left in glob.glob(os.path.join(glob.escape(folder), f".{glob.escape(name)}-{random}")):
        if os.path.isdir(left):
            shutil.rmtree(left)
        else:
            os.remove(left)


def write_json(content: Any, path: str) -> None:
    """Write ``content`` as JSON, whole or not at all; raises AdminError where it cannot."""
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    with replacing(path) as file:
        file.write(text.encode())
