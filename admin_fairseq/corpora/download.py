"""Fetching archives: from several addresses, going on where an earlier try stopped."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
import zlib
from typing import Optional
from urllib.parse import quote

from tqdm import tqdm

from admin_fairseq.corpora.recipes import Archive
from admin_fairseq.errors import AdminError
from admin_fairseq.files import replacing

BLOCK = 1 << 20
SUMS = "SHA256SUMS"  # in the format of sha256sum, which can check it too
TIMEOUT = 60  # seconds without a byte


def fetch(archive: Archive, folder: str, mirror: Optional[str] = None) -> str:
    """The path of ``archive`` in ``folder``, downloaded if it is not there.

    ``mirror`` is the address of a folder that is tried before the published addresses. Raises
    AdminError that lists every address if none of them gives the file.
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
            digest = file_digest(part, "md5") if archive.md5 else None
            if digest != archive.md5 and url in archive.urls:
                os.remove(part)
                raise OSError(f"its MD5 sum is {digest}, not {archive.md5}")
            _remember_sum(path, file_digest(part, "sha256"))
            os.replace(part, path)
            return path
        except (OSError, http.client.HTTPException, ValueError) as error:
            failures.append(f"{url} ({_reason(error)})")
    raise AdminError(
        f"{archive.name} could not be downloaded from {' or '.join(failures)}; try again, or put "
        "the file in a folder of yours and name it with --raw-dir"
    )


def _download(url: str, path: str) -> str:
    """Bring ``url`` to a file beside ``path`` and return its name; an unfinished one is kept."""
    folder, name = os.path.split(path)
    part = os.path.join(folder, f".{name}.{zlib.crc32(url.encode()):08x}.part")
    have = os.path.getsize(part) if os.path.exists(part) else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        if error.headers.get("Content-Range") != f"bytes */{have}":
            os.remove(part)
            raise OSError("what was downloaded before is no part of it; try again") from None
        return part  # there are no bytes after those that we have
    with answer:
        resumed = answer.status == 206
        if resumed and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise OSError("the server sent other bytes than those asked for")
        size = answer.headers.get("Content-Length")
        total = int(size) + have * resumed if size else None
        bar = tqdm(
            total=total,
            initial=have * resumed,
            desc=name,
            unit="B",
            unit_scale=True,
            disable=None,
            leave=False,
        )
        with open(part, "ab" if resumed else "wb") as file, bar:
            for block in iter(lambda: answer.read(BLOCK), b""):
                file.write(block)
                bar.update(len(block))
    if total is not None and os.path.getsize(part) != total:
        raise OSError("the connection broke off")
    return part


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "reason", None) or error).split())


def file_digest(path: str, algorithm: str) -> str:
    digest = hashlib.new(algorithm)
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()


def known_sums(folder: str) -> dict[str, str]:
    """File name → SHA-256, as ``fetch`` wrote them down."""
    try:
        with open(os.path.join(folder, SUMS), encoding="utf-8") as file:
            entries = [line.rstrip("\n").split("  ", 1) for line in file]
    except FileNotFoundError:
        return {}
    return {entry[1]: entry[0] for entry in entries if len(entry) == 2}


def _remember_sum(path: str, digest: str) -> None:
    folder, name = os.path.split(path)
    sums = {**known_sums(folder), name: digest}
    with replacing(os.path.join(folder, SUMS)) as file:
        file.write("".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode())


def check(archive: Archive, path: str) -> None:
    """Raise AdminError if the file is not the one whose sum was written down beside it."""
    folder, name = os.path.split(path)
    known = known_sums(folder).get(name)
    if known is not None and file_digest(path, "sha256") != known:
        raise AdminError(
            f"{path}: its SHA-256 sum is not the one in {SUMS} beside it; delete the file "
            "and start again"
        )
