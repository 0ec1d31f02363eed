"""Processes end with the one that started them (what they import: tests/benchmarks)."""

import multiprocessing
import os
import select
import signal
import time
from concurrent.futures.process import BrokenProcessPool

import pytest

from admin_fairseq.workers import _signals_later, apart


@pytest.fixture(autouse=True)
def interrupts():
    """Heard also by tests that a shell runs in the background, where it has them ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def stay(open_end):
    """Start another process, say so, and stay for long."""
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    child.start()
    os.write(open_end, b"!")
    time.sleep(60)


def parent_that_waits(open_end):
    pid = os.fork()
    if pid == 0:
        try:
            apart(stay, open_end, method="fork")
        finally:
            os._exit(0)
    return pid


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_process_outlives_the_one_that_started_it(number):
    """A pipe ends when nobody has it open any more."""
    read_end, write_end = os.pipe()
    pid = parent_that_waits(write_end)
    os.close(write_end)
    assert os.read(read_end, 1) == b"!"
    os.kill(pid, number)
    os.waitpid(pid, 0)
    ready, _, _ = select.select([read_end], [], [], 10)
    assert ready and os.read(read_end, 1) == b""
    os.close(read_end)


def test_results_and_errors_come_back():
    assert apart(divmod, 7, 2, method="fork") == (3, 1)
    with pytest.raises(ZeroDivisionError):
        apart(divmod, 7, 0, method="fork")
    with pytest.raises(BrokenProcessPool):
        apart(os._exit, 9, method="fork")


def test_an_interrupt_waits_until_a_process_has_started():
    reached = []
    with pytest.raises(KeyboardInterrupt), _signals_later():
        signal.raise_signal(signal.SIGINT)
        reached.append("end")
    assert reached == ["end"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
