"""Extracting single files from an archive, whole or not at all."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import zlib
from contextlib import ExitStack, contextmanager
from typing import BinaryIO, Collection, Iterator, Mapping, cast

from tqdm import tqdm

from admin_fairseq.corpora.places import open_input
from admin_fairseq.errors import AdminError
from admin_fairseq.files import replacing

BLOCK = 1 << 20
LARGEST = 32 << 30  # bytes unpacked, several times the size of the published archives
MOST_MEMBERS = 10_000  # tarfile remembers all of them
HEADERS = 32 << 10  # bytes of headers before a member, which tarfile holds in memory
DAMAGE = (
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    ValueError,
    ArithmeticError,
    RecursionError,
)
"""What reading a damaged or malicious archive raises."""


class BadArchive(ValueError):
    """What is wrong with an archive."""


def verify(archive: str, members: Collection[str]) -> None:
    """Read a .tar or .tgz to its end; raises BadArchive if it is damaged or lacks a member."""
    with _naming_damage():
        for _ in _contents(archive, members):
            pass


def unpack(archive: str, members: Mapping[str, str]) -> None:
    """Write each member of a .tar or .tgz to the path it is mapped to.

    A member ``NAME.gz`` is accepted for ``NAME`` (WMT's giga-fren). The archive is read to its
    end, where its check sum is, before any file appears. Raises AdminError for a damaged archive
    or a missing member.
    """
    with ExitStack() as outputs:
        try:
            with _naming_damage():
                for name, content in _contents(archive, members):
                    file = outputs.enter_context(replacing(members[name]))
                    shutil.copyfileobj(content, file, BLOCK)
        except BadArchive as error:
            raise AdminError(f"{archive}: {error}; delete it and start again") from None


@contextmanager
def _naming_damage() -> Iterator[None]:
    try:
        yield
    except BadArchive:
        raise
    except DAMAGE as error:
        raise BadArchive(f"damaged or not a tar archive ({error})") from None


def _contents(archive: str, members: Collection[str]) -> Iterator[tuple[str, BinaryIO]]:
    """Each of the members as a stream, which must be read before the next one is requested.

    Raises BadArchive at the end if some are missing. Only plain files count: no links, and no
    sparse files, whose holes may be larger than any disk.
    """
    missing = set(members)
    with _stream(archive) as stream:
        within = _Unended(stream, HEADERS, f"more than {HEADERS >> 10} KiB between two members")
        with tarfile.open(fileobj=cast(BinaryIO, within), mode="r|") as tar:
            for number, entry in enumerate(tar):
                if number == MOST_MEMBERS:
                    raise BadArchive(f"more than {MOST_MEMBERS:,} members")
                if not 0 <= entry.size <= LARGEST:
                    raise BadArchive(f"a member of {entry.size:,} bytes")
                within.left = entry.size + HEADERS
                name = os.path.normpath(entry.name)
                compressed = name.endswith(".gz") and name not in missing
                wanted = name[: -len(".gz")] if compressed else name
                if wanted not in missing or not entry.isfile() or entry.issparse():
                    continue
                missing.remove(wanted)
                content = cast(BinaryIO, tar.extractfile(entry))
                yield wanted, _uncompressed(content) if compressed else content
        while stream.read(BLOCK):  # to the check sum
            pass
    if missing:
        others = f" and {len(missing) - 1} more members" if len(missing) > 1 else ""
        raise BadArchive(f"it lacks {min(missing)}{others}")


def _uncompressed(stream: BinaryIO) -> BinaryIO:
    content = cast(BinaryIO, gzip.GzipFile(fileobj=stream))
    return cast(BinaryIO, _Limited(content, LARGEST, f"more than {LARGEST >> 30} GiB unpacked"))


class _Limited:
    """A stream that raises BadArchive with ``message`` after ``left`` bytes."""

    def __init__(self, stream: BinaryIO, left: int, message: str) -> None:
        self.left = left
        self._stream = stream
        self._message = message

    def read(self, size: int) -> bytes:
        block = self._stream.read(size)
        self.left -= len(block)
        if self.left < 0:
            raise BadArchive(self._message)
        return block


class _Unended(_Limited):
    """A stream whose reader knows where it ends, so that an earlier end is an error."""

    def read(self, size: int) -> bytes:
        block = super().read(size)
        if not block:
            raise EOFError("it ends too early")
        return block


@contextmanager
def _stream(archive: str) -> Iterator[BinaryIO]:
    """The archive's bytes, uncompressed, with a progress bar for the file."""
    with open_input(archive) as file:
        size = os.fstat(file.fileno()).st_size
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        title = os.path.basename(archive)
        bar = {"total": size, "desc": title, "disable": None, "leave": False}
        with tqdm.wrapattr(file, "read", **bar) as stream:
            yield _uncompressed(stream) if compressed else stream
