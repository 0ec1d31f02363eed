"""Downloading from a server in this process, which can break off."""

import functools
import gzip
import hashlib
import io
import os
import re
import tarfile
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from admin_fairseq.corpora import archives, download
from admin_fairseq.corpora import prepare as module
from admin_fairseq.corpora.datasets import Archive
from admin_fairseq.corpora.download import check, known_sums
from admin_fairseq.errors import AdminError

CONTENT = bytes(range(256)) * 400


@pytest.fixture
def server():
    """Serves CONTENT as any /good..., half of it as /cut..., and knows ranges unless /plain...;
    its list ``asked`` has the path and range of each request. Its dictionary ``raw`` has answers
    word by word: parts, with a pause after each."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers.get("Range")))
            for part in raw.get(self.path.split("/")[1], ()):
                self.wfile.write(part)
                time.sleep(0.05)
            if self.path.split("/")[1] in raw:
                return None
            if self.path.startswith("/none"):
                return self.send_error(404)
            wanted = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
            first = int(wanted.group(1)) if wanted and not self.path.startswith("/plain") else 0
            if first >= len(CONTENT):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
                return self.end_headers()
            self.send_response(206 if first else 200)
            other = 0 if self.path.startswith("/other") else first
            body = CONTENT[other:]
            if first:
                last = len(CONTENT) - 1
                self.send_header("Content-Range", f"bytes {other}-{last}/{len(CONTENT)}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if self.path.startswith("/cut") else body)

        def log_message(self, *args):
            pass

    asked, raw = [], {}
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        running.asked, running.url = asked, f"http://127.0.0.1:{running.server_port}"
        running.raw, running.handle_error = raw, lambda *args: None  # whoever hung up
        yield running
        running.shutdown()


def archive(server, *places, md5=None):
    return Archive("a.tgz", tuple(f"{server.url}/{place}/a.tgz" for place in places), md5)


def fetch(wanted, folder, mirror=None):
    return download.fetch(wanted, folder, lambda path: None, mirror)


def part(folder, url):
    """Where a download from ``url`` goes on."""
    return folder / f".a.tgz.{zlib.crc32(url.encode()):08x}.part"


def test_the_first_address_that_answers_serves(server, tmp_path):
    path = fetch(archive(server, "none", "good", "good2"), str(tmp_path))
    assert Path(path).read_bytes() == CONTENT
    assert [place for place, _ in server.asked] == ["/none/a.tgz", "/good/a.tgz"]
    assert known_sums(str(tmp_path)) == {"a.tgz": hashlib.sha256(CONTENT).hexdigest()}
    fetch(archive(server, "good"), str(tmp_path))
    assert len(server.asked) == 2  # it was there


def packed(name, content=CONTENT):
    """A .tgz with one member."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def told(content, length=None):
    length = len(content) if length is None else length
    return [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length, content]


SOUND = packed("text")
UNTOLD = b"HTTP/1.0 200 OK\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (told(b"<html>404</html>" * 99), "damaged or not a tar archive"),
        (told(b""), "ends too early"),
        (told(SOUND, len(SOUND) // 2), "damaged or not a tar archive"),
        ([UNTOLD, SOUND[: len(SOUND) // 2]], "damaged or not a tar archive"),
        ([UNTOLD, SOUND[:-8]], "damaged or not a tar archive"),
        (told(bytes(5000)), "damaged or not a tar archive|the archive lacks text"),
        (told(packed("another")), "the archive lacks text"),
        (told(gzip.compress(b"text")), "damaged or not a tar archive"),
    ],
)
def test_what_is_no_archive_gets_no_name_and_the_next_address_is_asked(
    server, tmp_path, answer, reason
):
    server.raw.update(bad=answer, sound=told(SOUND))
    wanted = archive(server, "bad", "none")
    verify = functools.partial(archives.verify, members=["text"])
    with pytest.raises(AdminError, match=rf"/bad/a\.tgz \([^)]*({reason}).*/none/a\.tgz") as error:
        download.fetch(wanted, str(tmp_path), verify)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())
    path = download.fetch(archive(server, "bad", "sound"), str(tmp_path), verify)
    assert Path(path).read_bytes() == SOUND
    assert known_sums(str(tmp_path)) == {"a.tgz": hashlib.sha256(SOUND).hexdigest()}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        *(
            (
                [b"HTTP/1.1 200 OK\r\nContent-Length: %b\r\n\r\n" % length, SOUND],
                "Content-Length is",
            )
            for length in (b"x", b"-5", b"9" * 5000, "²".encode("latin-1"))
        ),
        ([b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n"], "not allowed"),
        ([b"HTTP/1.1 302 Found\r\nLocation: ftp://127.0.0.1:9/x\r\n\r\n"], "unknown url type: ftp"),
        ([b"HTTP/1.1 302 Found\r\nLocation: http://[\r\n\r\n"], "Invalid|IPv6"),
        ([b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n"], "more than 100 headers"),
        ([b"HTTP/1.1 200 OK\r\nX: " + b"y" * 99_999 + b"\r\n\r\n"], "more than 65536 bytes"),
        ([b"HTTP/1.1 404 \x1b]0;x\x07" + b"no" * 999 + b"\r\n\r\n"], r"\\x1b]0;x.*left out"),
        ([b""], "closed connection"),
    ],
)
def test_a_server_that_misbehaves_is_told_in_one_line(server, tmp_path, answer, reason):
    server.raw["bad"] = answer
    with pytest.raises(AdminError, match=rf"/bad/a\.tgz \([^)]*({reason})") as error:
        fetch(archive(server, "bad"), str(tmp_path))
    assert str(error.value).isprintable() and len(str(error.value)) < 900
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ([UNTOLD] + [b"x"] * 30, r"only \d+ bytes came within 0\.2 seconds"),
        ([b"HTTP/1.1 200 OK\r\n"] + [b"X: y\r\n"] * 30, r"no answer within 0\.2 seconds"),
    ],
)
def test_a_server_that_trickles_is_given_up(server, tmp_path, monkeypatch, answer, reason):
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    server.raw["slow"] = answer
    begin = time.monotonic()
    with pytest.raises(AdminError, match=reason):
        fetch(archive(server, "slow"), str(tmp_path))
    assert time.monotonic() - begin < 1
    assert not (tmp_path / "a.tgz").exists()


@pytest.mark.parametrize("answer", [told(CONTENT), [UNTOLD, CONTENT]])
def test_an_endless_download_is_given_up(server, tmp_path, monkeypatch, answer):
    monkeypatch.setattr(download, "LARGEST", 10_000)
    server.raw["endless"] = answer
    with pytest.raises(AdminError, match="more than"):
        fetch(archive(server, "endless"), str(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink(path.parent / "other", path)])
def test_a_part_that_is_no_file_is_left_alone(server, tmp_path, make):
    wanted = archive(server, "good")
    make(part(tmp_path, wanted.urls[0]))
    with pytest.raises(AdminError, match=r"not a regular file|symbolic link"):
        fetch(wanted, str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 1


def test_addresses_of_files_are_refused(tmp_path):
    (tmp_path / "a.tgz").write_bytes(SOUND)
    with pytest.raises(AdminError, match="unknown url type: file"):
        fetch(Archive("a.tgz", ()), str(tmp_path / "raw"), mirror=tmp_path.as_uri())


def test_damaged_sums_are_told_in_one_line(tmp_path):
    (tmp_path / "SHA256SUMS").write_bytes(b"\xff")
    with pytest.raises(AdminError, match="SHA256SUMS: not UTF-8"):
        known_sums(str(tmp_path))


def test_a_mirror_comes_first(server, tmp_path):
    fetch(archive(server, "good"), str(tmp_path), mirror=f"{server.url}/good-mirror/")
    assert server.asked == [("/good-mirror/a.tgz", None)]


@pytest.mark.parametrize("place", ["good", "plain"])
def test_a_broken_download_goes_on(server, tmp_path, place):
    """From the byte where it stopped, or from the start where a server cannot do that."""
    cut = archive(server, "cut")
    with pytest.raises(AdminError, match=r"/cut/a\.tgz \(the connection was lost\)"):
        fetch(cut, str(tmp_path))
    assert not (tmp_path / "a.tgz").exists()
    half = part(tmp_path, cut.urls[0])
    assert half.read_bytes() == CONTENT[: len(CONTENT) // 2]
    sound = archive(server, place)
    half.rename(part(tmp_path, sound.urls[0]))  # as if that address had broken off
    path = fetch(sound, str(tmp_path))
    assert Path(path).read_bytes() == CONTENT
    assert server.asked[-1][1] == f"bytes={len(CONTENT) // 2}-"
    assert not list(tmp_path.glob(".*"))


def test_a_complete_part_is_taken(server, tmp_path):
    wanted = archive(server, "good")
    part(tmp_path, wanted.urls[0]).write_bytes(CONTENT)
    assert Path(fetch(wanted, str(tmp_path))).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("have", "place", "message"),
    [
        (len(CONTENT) + 1, "good", "does not fit the file"),
        (9, "other", "other bytes than requested"),
    ],
)
def test_a_part_of_something_else_is_not_taken(server, tmp_path, have, place, message):
    wanted = archive(server, place)
    part(tmp_path, wanted.urls[0]).write_bytes(bytes(have))
    with pytest.raises(AdminError, match=message):
        fetch(wanted, str(tmp_path))
    assert not (tmp_path / "a.tgz").exists()


def test_every_address_is_named_when_none_serves(server, tmp_path):
    with pytest.raises(AdminError) as error:
        fetch(archive(server, "none", "none2"), str(tmp_path))
    message = str(error.value)
    assert "/none/a.tgz (Not Found)" in message and "/none2/a.tgz" in message
    assert "--raw-dir" in message and "\n" not in message
    assert not list(tmp_path.iterdir())


def test_a_published_sum_is_compared_with_the_file(server, tmp_path):
    sound = hashlib.md5(CONTENT).hexdigest()
    with pytest.raises(AdminError, match=f"its MD5 checksum is {sound}, not 0123"):
        fetch(archive(server, "good", md5="0123"), str(tmp_path))
    assert not list(tmp_path.iterdir())
    fetch(archive(server, "good", md5=sound), str(tmp_path))


def test_a_changed_archive_is_noticed(server, tmp_path):
    wanted = archive(server, "good")
    path = fetch(wanted, str(tmp_path))
    check(wanted, path)
    with open(path, "ab") as file:
        file.write(b"x")
    with pytest.raises(AdminError, match="SHA-256"):
        check(wanted, path)


def test_prepare_downloads_where_no_folder_is_named(server, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(module.download, "fetch", lambda *words: asked.append(words) or 1 / 0)
    options = module.Options("wmt17_en_de", str(tmp_path), mirror="http://mirror")
    with pytest.raises(ZeroDivisionError):
        module.prepare(options)
    assert asked[0][0].name == "training-parallel-europarl-v7.tgz"
    assert asked[0][1::2] == (str(tmp_path / "raw"), "http://mirror")
    assert set(asked[0][2].keywords["members"]) == {
        f"training/europarl-v7.de-en.{language}" for language in ("en", "de")
    }
