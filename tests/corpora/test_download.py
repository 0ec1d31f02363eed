"""Downloading from a server in this process, which can break off."""

import hashlib
import re
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from admin_fairseq.corpora import prepare as module
from admin_fairseq.corpora.download import check, fetch, known_sums
from admin_fairseq.corpora.recipes import Archive
from admin_fairseq.errors import AdminError

CONTENT = bytes(range(256)) * 400


@pytest.fixture
def server():
    """Serves CONTENT as any /good..., half of it as /cut..., and knows ranges unless /plain...;
    its list ``asked`` has the path and range of each request."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers.get("Range")))
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

    asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        running.asked, running.url = asked, f"http://127.0.0.1:{running.server_port}"
        yield running
        running.shutdown()


def archive(server, *places, md5=None):
    return Archive("a.tgz", tuple(f"{server.url}/{place}/a.tgz" for place in places), md5)


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


def test_a_mirror_comes_first(server, tmp_path):
    fetch(archive(server, "good"), str(tmp_path), mirror=f"{server.url}/good-mirror/")
    assert server.asked == [("/good-mirror/a.tgz", None)]


@pytest.mark.parametrize("place", ["good", "plain"])
def test_a_broken_download_goes_on(server, tmp_path, place):
    """From the byte where it stopped, or from the start where a server cannot do that."""
    cut = archive(server, "cut")
    with pytest.raises(AdminError, match=r"/cut/a\.tgz \(the connection broke off\)"):
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
    [(len(CONTENT) + 1, "good", "no part of it"), (9, "other", "other bytes than those asked for")],
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


def test_a_published_sum_is_held_against_the_file(server, tmp_path):
    sound = hashlib.md5(CONTENT).hexdigest()
    with pytest.raises(AdminError, match=f"its MD5 sum is {sound}, not 0123"):
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
    assert asked[0][1:] == (str(tmp_path / "raw"), "http://mirror")
