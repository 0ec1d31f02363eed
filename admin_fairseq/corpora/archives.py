"""Taking single files out of an archive, whole or not at all."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import zlib
from contextlib import ExitStack, contextmanager
from typing import BinaryIO, Iterator, Mapping, cast

from tqdm import tqdm

from admin_fairseq.errors import AdminError
from admin_fairseq.files import replacing

BLOCK = 1 << 20


def unpack(archive: str, members: Mapping[str, str]) -> None:
    """Write each member of a .tar or .tgz to the path it is mapped to.

    A member ``NAME.gz`` serves for ``NAME`` (WMT's giga-fren). The archive is read to its end,
    where its check sum stands, before anything appears. Raises AdminError for a damaged archive
    or a missing member.
    """
    with ExitStack() as outputs:
        try:
            missing = _read(archive, members, outputs)
        except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise AdminError(
                f"{archive}: damaged or not a tar archive ({error}); delete it and start again"
            ) from None
        if missing:
            raise AdminError(
                f"{archive}: {', '.join(sorted(missing))} is not in it; is it the right file?"
            )


def _read(archive: str, members: Mapping[str, str], outputs: ExitStack) -> set[str]:
    """Write the members to files that ``outputs`` will let appear; the names of those missing."""
    missing = set(members)
    with _stream(archive) as stream:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for entry in tar:
                name = os.path.normpath(entry.name)
                compressed = name.endswith(".gz") and name not in missing
                wanted = name[: -len(".gz")] if compressed else name
                if wanted not in missing or not entry.isfile():
                    continue
                content = cast(BinaryIO, tar.extractfile(entry))
                if compressed:
                    content = cast(BinaryIO, gzip.GzipFile(fileobj=content))
                file = outputs.enter_context(replacing(members[wanted]))
                shutil.copyfileobj(content, file, BLOCK)
                missing.remove(wanted)
        while stream.read(BLOCK):  # to the check sum
            pass
    return missing


@contextmanager
def _stream(archive: str) -> Iterator[BinaryIO]:
    """The archive's bytes, uncompressed, with progress by what was read of the file."""
    size = os.path.getsize(archive)
    with open(archive, "rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        title = os.path.basename(archive)
        bar = {"total": size, "desc": title, "disable": None, "leave": False}
        with tqdm.wrapattr(file, "read", **bar) as stream:
            yield cast(BinaryIO, gzip.GzipFile(fileobj=stream) if compressed else stream)
