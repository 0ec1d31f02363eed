"""Check tar archives and extract single files from them, each file completely or not at all."""

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
LARGEST = 32 << 30  # bytes after unpacking; the published archives are several times smaller
MOST_MEMBERS = 10_000  # a limit, because tarfile keeps every member in memory
HEADERS = 32 << 10  # bytes of headers allowed before a member, because tarfile holds them in memory
DAMAGE = (
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    ValueError,
    ArithmeticError,
    RecursionError,
)
"""The exceptions that reading a damaged or malicious archive can raise."""


class BadArchive(ValueError):
    """Raised for an archive that is damaged, too large or incomplete; the message says why."""


def verify(archive: str, members: Collection[str]) -> None:
    """Read a .tar or .tgz file to its end; raise BadArchive if the file is damaged or if one of
    ``members`` is missing."""
    with _naming_damage():
        for _ in _contents(archive, members):
            pass


def unpack(archive: str, members: Mapping[str, str]) -> None:
    """Extract members of a .tar or .tgz file; ``members`` maps each name to the path to write.

    A member ``NAME.gz`` is decompressed and used for ``NAME`` (WMT's giga-fren archive has such
    members). No output file appears before the archive has been read to its end, where its
    checksum is. Raises AdminError for a damaged archive or a missing member.
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
    """Raise BadArchive in place of any exception in ``DAMAGE``."""
    try:
        yield
    except BadArchive:
        raise
    except DAMAGE as error:
        raise BadArchive(f"damaged or not a tar archive ({error})") from None


def _contents(archive: str, members: Collection[str]) -> Iterator[tuple[str, BinaryIO]]:
    """Yield (name, content stream) for each of ``members``; read a stream before asking for the
    next pair.

    Raises BadArchive after the last member if some are missing. Links are ignored, and so are
    sparse files, because their holes could fill any disk.
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
        while stream.read(BLOCK):  # read on to the gzip checksum, so that it is verified
            pass
    if missing:
        others = f" and {len(missing) - 1} more members" if len(missing) > 1 else ""
        raise BadArchive(f"the archive lacks {min(missing)}{others}")


def _uncompressed(stream: BinaryIO) -> BinaryIO:
    """Wrap a gzip stream in one that decompresses; reading more than ``LARGEST`` bytes raises
    BadArchive."""
    content = cast(BinaryIO, gzip.GzipFile(fileobj=stream))
    return cast(BinaryIO, _Limited(content, LARGEST, f"more than {LARGEST >> 30} GiB unpacked"))


class _Limited:
    """A readable stream that raises BadArchive(``message``) when more than ``left`` bytes are
    read."""

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
    """A ``_Limited`` stream that raises EOFError when it is read at its end.

    tarfile stops reading at the mark that ends an archive, so only a truncated one is read further.
    """

    def read(self, size: int) -> bytes:
        block = super().read(size)
        if not block:
            raise EOFError("the archive ends too early")
        return block


@contextmanager
def _stream(archive: str) -> Iterator[BinaryIO]:
    """Open a .tar or .tgz file for reading, decompressed if needed, and show a progress bar."""
    with open_input(archive) as file:
        size = os.fstat(file.fileno()).st_size
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        title = os.path.basename(archive)
        bar = {"total": size, "desc": title, "disable": None, "leave": False}
        with tqdm.wrapattr(file, "read", **bar) as stream:
            yield _uncompressed(stream) if compressed else stream
