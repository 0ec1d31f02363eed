"""Archives that claim more than they have, or have more than any archive should."""

import gzip
import os
import tarfile
import time
import tracemalloc

import pytest

from admin_fairseq.corpora import archives
from admin_fairseq.corpora.archives import BadArchive, unpack, verify
from admin_fairseq.errors import AdminError

from .miniatures import _archive

MEMBER = "folder/text"
END = bytes(1024)


def header(kind=tarfile.REGTYPE, size=0, name=MEMBER):
    entry = tarfile.TarInfo(name)
    entry.type, entry.size = kind, size
    return entry.tobuf(tarfile.GNU_FORMAT)


def changed(head, place, field):
    """A header with another field and a sum that is right again."""
    head = head[:place] + field + head[place + len(field) :]
    head = head[:148] + b" " * 8 + head[156:]
    return head[:148] + b"%06o\0 " % sum(head) + head[156:]


def pax(*records):
    """A header of such records, each of which begins with its own length."""
    content = b""
    for text in records:
        length = next(n for n in range(99) if n == len(f"{n} {text}\n"))
        content += f"{length} {text}\n".encode()
    return header(tarfile.XHDTYPE, len(content)) + content + bytes(-len(content) % 512)


NAMES = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
MUCH = 50 << 20
SPARSE = changed(changed(header(tarfile.GNUTYPE_SPARSE), 386, bytes(96)), 483, b"77777777777\0")
HOSTILE = {
    **{f"name {kind!r}": header(kind, MUCH) + b"1" * MUCH + END for kind in NAMES},
    "sparse": SPARSE + END,
    "sparse map": changed(SPARSE, 482, b"\1") + (b"1" * 504 + b"\1" + bytes(7)) * (MUCH >> 9) + END,
    "sparse by pax": pax("GNU.sparse.major=1", "GNU.sparse.minor=0")
    + header(size=MUCH)
    + b"1" * MUCH
    + END,
    "size by pax": pax("size=999999999999999999") + header() + END,
    "negative by pax": pax("size=-512") + header() + END,
    "negative": changed(header(), 124, b"\xff" * 12) + END,
    "claims": header(size=8**11 - 1) + END,
    "nested": header(tarfile.XHDTYPE) * 5000 + header() + END,
    "digits": header(tarfile.XHDTYPE, 9000) + b"1" * 9000 + b" a=b\n".ljust(216) + header() + END,
    "link": header(tarfile.SYMTYPE) + END,
    "device": header(tarfile.CHRTYPE) + END,
    "no end": header(name="other"),
    "folder": header(tarfile.DIRTYPE) + END,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives_take_no_memory_and_no_time(tmp_path, name):
    path = tmp_path / "a.tgz"
    path.write_bytes(gzip.compress(HOSTILE[name], 1))
    tracemalloc.start()
    begin = time.monotonic()
    try:
        with pytest.raises(BadArchive):
            verify(str(path), [MEMBER])
        with pytest.raises(AdminError, match=r"a\.tgz: .*; delete it and start again"):
            unpack(str(path), {MEMBER: str(tmp_path / "out" / "text")})
        assert tracemalloc.get_traced_memory()[1] < 30 << 20
    finally:
        tracemalloc.stop()
    assert time.monotonic() - begin < 20
    assert not list(tmp_path.glob("out/*"))


def test_what_unpacks_without_end_is_given_up(tmp_path, monkeypatch):
    _archive(tmp_path / "a.tgz", {MEMBER: bytes(2 << 20)})
    verify(str(tmp_path / "a.tgz"), [MEMBER])
    monkeypatch.setattr(archives, "LARGEST", 1 << 20)
    with pytest.raises(BadArchive, match="a member of 2,097,152 bytes"):
        verify(str(tmp_path / "a.tgz"), [MEMBER])
    (tmp_path / "b.tgz").write_bytes(gzip.compress(header() + bytes(2 << 20)))
    with pytest.raises(BadArchive, match="unpacked"):
        verify(str(tmp_path / "b.tgz"), [MEMBER])
    _archive(tmp_path / "c.tar", {f"{MEMBER}.gz": gzip.compress(bytes(2 << 20))})
    with pytest.raises(AdminError, match="unpacked"):
        unpack(str(tmp_path / "c.tar"), {MEMBER: str(tmp_path / "out")})
    assert not (tmp_path / "out").exists()


def test_members_are_counted(tmp_path, monkeypatch):
    _archive(tmp_path / "a.tgz", {f"{number}": b"" for number in range(9)})
    monkeypatch.setattr(archives, "MOST_MEMBERS", 8)
    with pytest.raises(BadArchive, match="more than 8 members"):
        verify(str(tmp_path / "a.tgz"), ["8"])


def test_an_archive_that_is_a_fifo(tmp_path):
    os.mkfifo(tmp_path / "a.tgz")
    with pytest.raises(AdminError, match="cannot be read: not a regular file"):
        unpack(str(tmp_path / "a.tgz"), {MEMBER: str(tmp_path / "out")})


def test_long_names_are_names(tmp_path):
    name = "folder/" + "long" * 200
    _archive(tmp_path / "a.tgz", {name: b"text"})
    unpack(str(tmp_path / "a.tgz"), {name: str(tmp_path / "out")})
    assert (tmp_path / "out").read_bytes() == b"text"
