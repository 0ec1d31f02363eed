"""Keep checkpoint files complete, whenever a run is killed.

Seen in fairseq 0.12.2 and fairseq-fixed 0.12.3.1 (``checkpoint_utils``): checkpoint_best.pt and
checkpoint_last.pt are overwritten in place, so that a kill leaves them empty; and after an
interrupt or a write error fairseq calls ``torch.save`` again, which appends to what was written.
"""

from __future__ import annotations

import functools
import shutil
import time
from typing import Any, BinaryIO, Callable

import torch
from fairseq import checkpoint_utils
from fairseq.file_io import PathManager

from admin_fairseq.files import replacing

TRIES, PAUSE = 3, 2.5
"""Number of attempts to write a checkpoint, as in fairseq, and seconds between two attempts."""


def apply() -> None:
    """Patch fairseq to write and copy checkpoints under temporary names, renamed when complete.

    Paths that iopath handles, and --write-checkpoints-asynchronously, keep fairseq's own way.
    """
    checkpoint_utils.torch_persistent_save = _whole(checkpoint_utils.torch_persistent_save)
    checkpoint_utils.PathManager = WholeCopies


def _whole(write: Callable[..., None]) -> Callable[..., None]:
    """Wrap ``torch_persistent_save`` so that a kill leaves the whole new file or the old one."""

    @functools.wraps(write)
    def torch_persistent_save(obj: Any, filename: str, async_write: bool = False) -> None:
        if async_write or not PathManager.supports_rename(filename):
            write(obj, filename, async_write)
            return
        with replacing(filename) as file:
            save_patiently(obj, file)

    return torch_persistent_save


def save_patiently(content: Any, file: BinaryIO) -> None:
    """Write ``content`` to ``file`` with ``save``; try up to TRIES times, from the file's start.

    Raises OSError if the last attempt fails too.
    """
    for left in reversed(range(TRIES)):
        try:
            file.seek(0)
            file.truncate()
            save(content, file)
            return
        except OSError:
            if not left:
                raise
            time.sleep(PAUSE)


def save(content: Any, file: BinaryIO) -> None:
    """Write ``content`` to ``file`` by ``torch.save``, but raise the real error if that fails.

    torch hides the error (a full disk, an interrupt) behind a RuntimeError of its own.
    """
    try:
        torch.save(content, file)
    except RuntimeError as error:
        raise (error.__context__ or error) from None


class WholeCopies(PathManager):
    """fairseq's ``PathManager``, except that a copy replaces the old file only when complete.

    Files are copied, not hard-linked: one file must not change when the other is overwritten in
    place, as ``cp`` and fairseq without this plugin do.
    """

    @staticmethod
    def copy(src_path: str, dst_path: str, overwrite: bool = False) -> bool:
        """Copy a file, to a temporary name that is renamed at the end; return True on success.

        Paths that iopath handles are copied by ``PathManager`` itself.
        """
        if any(map(PathManager.path_requires_pathmanager, (src_path, dst_path))):
            return PathManager.copy(src_path, dst_path, overwrite)
        with open(src_path, "rb") as source, replacing(dst_path, force=overwrite) as target:
            shutil.copyfileobj(source, target, 16 << 20)
        return True
