import subprocess
import sys
import threading
import time

import pytest
from fairseq.data import iterators

from admin_fairseq.repairs import loading_threads

from ..integration.shims import ROOT

LEFT_IN_THE_MIDDLE = """
import torch
import admin_fairseq
from fairseq.data import iterators

class Source:
    def __len__(self):
        return 10**6

    def __iter__(self):
        while True:
            yield [torch.rand(64, 64).sum() for _ in range(20)]

next(iterators.BufferedIterator(10, Source()))
"""


def loaders():
    found = [t for t in threading.enumerate() if isinstance(t, loading_threads.BackgroundConsumer)]
    return len(found)


def test_a_process_ends_well_while_batches_are_loaded():
    """Without the repair it aborts nearly every time."""
    done = subprocess.run(
        [sys.executable, "-c", LEFT_IN_THE_MIDDLE], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("size", [1, 3])
def test_a_thread_that_waits_for_room_is_stopped(size):
    before = loaders()
    buffered = iterators.BufferedIterator(size, range(100))
    assert [next(buffered) for _ in range(5)] == list(range(5))
    assert loaders() == before + 1
    loading_threads.stop_all()
    assert loaders() == 0


def test_a_thread_that_never_comes_back_is_waited_for_so_long_and_no_longer(monkeypatch):
    monkeypatch.setattr(loading_threads, "LONGEST", 0.1)
    ended = threading.Event()

    class Stuck(list):
        def __iter__(self):
            yield 0
            ended.wait(60)

    next(iterators.BufferedIterator(1, Stuck([0, 1])))
    start = time.monotonic()
    loading_threads.stop_all()
    assert time.monotonic() - start < 5
    ended.set()


def test_nothing_is_lost_of_what_is_read_to_its_end():
    assert list(iterators.BufferedIterator(2, range(20))) == list(range(20))
