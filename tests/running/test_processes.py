"""Processes that end with this one, and lines that a shell reads."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admin_fairseq.running.processes import as_line, run

WAITS = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
SAYS = "import os, pathlib, time; pathlib.Path({!r}).write_text(str(os.getpid())); time.sleep(60)"


@given(st.lists(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"))))
def test_a_shell_reads_the_words_back(words):
    script = f"for word in {as_line(words)}; do printf '%s\\0' \"$word\"; done"
    read = subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout
    assert read.decode().split("\0")[:-1] == words


@given(st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=126))))
def test_words_are_spelled_as_bash_spells_them(words):
    command = ["bash", "-c", '[ $# = 0 ] || printf "%q " "$@"', "-", *words]
    printed = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    assert as_line(words) == printed


@pytest.mark.parametrize("program", ["exit 3", "kill -TERM $$"])
def test_status(program):
    assert run(["bash", "-c", program]) == (3 if "3" in program else 128 + signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_a_command_has_started_ends_with_us(tmp_path, number):
    told = tmp_path / "pid"
    words = [sys.executable, "-c", WAITS, SAYS.format(str(told))]
    process = multiprocessing.get_context("fork").Process(target=_ours, args=(words,))
    process.start()
    _wait(lambda: told.exists() and told.read_text())
    os.kill(process.pid, number)
    process.join(20)
    assert process.exitcode not in (0, None)
    _wait(lambda: not _alive(int(told.read_text())))


def _ours(words):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # not ignored, as in the background
    run(words)


def _wait(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def _alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not os.path.exists(f"/proc/{pid}/stat") or " Z " not in open(f"/proc/{pid}/stat").read()
