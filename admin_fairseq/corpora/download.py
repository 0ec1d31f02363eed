"""Download archives: try several addresses, resume interrupted downloads, record checksums."""

from __future__ import annotations

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
import zlib
from concurrent import futures
from concurrent.futures import Future
from threading import Thread
from typing import Callable, Iterator, Optional
from urllib.parse import quote

from tqdm import tqdm

from admin_fairseq.corpora.datasets import Archive
from admin_fairseq.corpora.places import open_input, open_own, remove
from admin_fairseq.errors import AdminError, shortened
from admin_fairseq.files import read_text, replacing

BLOCK = 1 << 20
SUMS = "SHA256SUMS"  # a file in the format of sha256sum, so that sha256sum -c can check it
TIMEOUT = 60  # seconds to wait for an answer
SLOWEST = 60 << 10  # the least bytes in TIMEOUT seconds; a slower download would take weeks
LARGEST = 8 << 30  # bytes; the largest published archive is several times smaller
TOO_LARGE = f"the file has more than {LARGEST >> 30} GiB"


def fetch(
    archive: Archive, folder: str, verify: Callable[[str], None], mirror: Optional[str] = None
) -> str:
    """Download ``archive`` into ``folder`` unless it is there already, and return its path.

    ``mirror`` is the address of a folder that is tried before the published addresses. A file for
    which ``verify`` raises ValueError is removed, and the next address is tried. Raises AdminError,
    which lists every address and its failure, if none of them has the file.
    """
    path = os.path.join(folder, archive.name)
    if os.path.exists(path):
        return path
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise AdminError(f"{folder}: cannot be written: {error.strerror}") from None
    mirrors = (f"{mirror.rstrip('/')}/{quote(archive.name)}",) if mirror else ()
    failures = []
    for url in (*mirrors, *archive.urls):
        try:
            part = _download(url, path)
            _remove_if_unexpected(part, verify, archive.md5 if url in archive.urls else None)
            _remember_sum(path, file_digest(part, "sha256"))
            os.replace(part, path)
            return path
        except (OSError, http.client.HTTPException, ValueError) as error:
            failures.append(f"{url} ({_reason(error)})")
    raise AdminError(
        f"{archive.name} could not be downloaded from {' or '.join(failures)}; try again, or put "
        "the file in a folder of yours and name it with --raw-dir"
    )


def _remove_if_unexpected(part: str, verify: Callable[[str], None], md5: Optional[str]) -> None:
    """Remove the downloaded file ``part`` and raise ValueError if its MD5 checksum is not ``md5``
    or ``verify`` rejects it."""
    try:
        digest = file_digest(part, "md5") if md5 else None
        if digest != md5:
            raise ValueError(f"its MD5 checksum is {digest}, not {md5}")
        verify(part)
    except ValueError:
        remove(part)
        raise


def _download(url: str, path: str) -> str:
    """Download ``url`` to a .part file in the folder of ``path`` and return that file's path.

    An interrupted download leaves the .part file, from which a later call goes on.
    """
    folder, name = os.path.split(path)
    part = os.path.join(folder, f".{name}.{zlib.crc32(url.encode()):08x}.part")
    have = os.path.getsize(part) if os.path.exists(part) else 0
    answer = _ask(url, have, part)
    if answer is None:
        return part
    with answer:
        begin = have if answer.status == 206 else 0
        total = _total(answer, begin)
        with open_own(part) as file:
            file.truncate(begin)
            file.seek(begin)
            bar = {"unit": "B", "unit_scale": True, "disable": None, "leave": False}
            with tqdm(desc=name, total=total, initial=begin, **bar) as progress:
                for block in _blocks(answer):
                    file.write(block)
                    progress.update(len(block))
                    if file.tell() > LARGEST:
                        remove(part)
                        raise OSError(TOO_LARGE)
            if total is not None and file.tell() != total:
                raise OSError("the connection was lost")
    return part


def _ask(url: str, have: int, part: str) -> Optional[http.client.HTTPResponse]:
    """Request ``url`` from byte ``have`` on, and return the server's response.

    Returns None if the file has exactly ``have`` bytes. Raises OSError, and removes ``part``, if
    the bytes downloaded earlier cannot belong to this file.
    """
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = _in_time(lambda: _web().open(request, timeout=TIMEOUT))
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        if error.headers.get("Content-Range") != f"bytes */{have}":
            remove(part)
            raise OSError("the part downloaded earlier does not fit the file; try again") from None
        return None
    there = answer.headers.get("Content-Range", "")
    if answer.status == 206 and not there.startswith(f"bytes {have}-"):
        answer.close()
        raise OSError("the server sent other bytes than requested")
    return answer


def _web() -> urllib.request.OpenerDirector:
    """Build a URL opener for http and https only: a server cannot redirect it to a local file or
    to FTP."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


def _in_time(ask: Callable[[], http.client.HTTPResponse]) -> http.client.HTTPResponse:
    """Call ``ask`` in a thread and return its response; raise OSError after TIMEOUT seconds.

    The time limit of a socket would not do: it restarts with each byte that arrives.
    """
    answer: Future[http.client.HTTPResponse] = Future()

    def wait() -> None:
        try:
            answer.set_result(ask())
        except Exception as error:
            answer.set_exception(error)

    Thread(target=wait, daemon=True).start()
    try:
        return answer.result(TIMEOUT)
    except futures.TimeoutError:
        raise OSError(f"no answer within {TIMEOUT} seconds") from None


def _total(answer: http.client.HTTPResponse, begin: int) -> Optional[int]:
    """Compute the size of the whole file in bytes: ``begin`` bytes downloaded earlier plus the
    Content-Length of ``answer``.

    Returns None if the server does not send the length; raises OSError if it is invalid or larger
    than LARGEST.
    """
    size = answer.headers.get("Content-Length")
    if size is None:
        return None
    if not (size.isascii() and size.isdecimal() and len(size) < 20):
        raise OSError(f"the server's Content-Length is {shortened(size, 30)!r}")
    if begin + int(size) > LARGEST:
        raise OSError(TOO_LARGE)
    return begin + int(size)


def _blocks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield the blocks of a response as they arrive; raise OSError if fewer than SLOWEST bytes
    arrive within TIMEOUT seconds."""
    since, arrived = time.monotonic(), 0
    for block in iter(lambda: answer.read1(BLOCK), b""):
        yield block
        arrived += len(block)
        if time.monotonic() - since > TIMEOUT:
            if arrived < SLOWEST:
                raise OSError(f"only {arrived:,} bytes came within {TIMEOUT} seconds")
            since, arrived = time.monotonic(), 0


def _reason(error: Exception) -> str:
    """Describe an error of a download in one short line."""
    reason = getattr(error, "reason", None) or error
    return shortened(" ".join(str(reason).split()) or type(error).__name__, 300)


def file_digest(path: str, algorithm: str) -> str:
    """Compute a file's checksum in hexadecimal; ``algorithm`` is a name of hashlib's, as sha256."""
    digest = hashlib.new(algorithm)
    with open_input(path) as file:
        for block in iter(lambda: file.read(BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()


def known_sums(folder: str) -> dict[str, str]:
    """Read the SHA-256 checksums, by file name, that ``fetch`` recorded in SHA256SUMS."""
    path = os.path.join(folder, SUMS)
    if not os.path.lexists(path):
        return {}
    entries = [line.split("  ", 1) for line in read_text(path).split("\n")]
    return {entry[1]: entry[0] for entry in entries if len(entry) == 2}


def _remember_sum(path: str, digest: str) -> None:
    """Record the SHA-256 checksum of the file ``path`` in SHA256SUMS in the same folder."""
    folder, name = os.path.split(path)
    sums = {**known_sums(folder), name: digest}
    with replacing(os.path.join(folder, SUMS)) as file:
        file.write("".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode())


def check(archive: Archive, path: str) -> None:
    """Raise AdminError if the file's SHA-256 checksum differs from the one that ``fetch`` recorded
    in SHA256SUMS; accept a file without a record."""
    folder, name = os.path.split(path)
    known = known_sums(folder).get(name)
    if known is not None and file_digest(path, "sha256") != known:
        raise AdminError(
            f"{path}: its SHA-256 checksum is not the one in {SUMS} in the same folder; delete the "
            "file and start again"
        )
