"""What a run of several processes says when it ends before its time."""

import os
import signal
import time

import pytest
import torch
from torch.multiprocessing import ProcessRaisedException, start_processes

from admin_fairseq.errors import AdminError
from admin_fairseq.repairs import spawning


@pytest.fixture(autouse=True)
def forked(monkeypatch):
    """Forked processes behave as spawned ones, and need not import everything again."""

    def spawn(fn, args, nprocs, join):
        return start_processes(fn, args, nprocs, join, start_method="fork")

    monkeypatch.setattr(torch.multiprocessing, "spawn", spawn)


def refuse(i):
    raise AdminError("there is no such file")


def refuse_at_length(i):
    raise AdminError("9" * 1_000_000)


def profile(i):
    raise SystemExit(0)


def be_killed(i):
    if i == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def refuse_alone(i):
    """The first worker refuses; what it hangs up on fails in another way."""
    if i == 0:
        raise AdminError("there is no such file")
    raise RuntimeError("Connection closed by peer")


def fail(i):
    raise ValueError("a fault of the program")


def test_what_all_workers_say_is_said_once(capfd):
    with pytest.raises(AdminError, match=r"^there is no such file$"):
        spawning.spawn(refuse, (), nprocs=3)
    assert capfd.readouterr().err == ""


def test_what_one_worker_says_is_not_buried_under_what_follows(capfd):
    with pytest.raises(AdminError, match=r"^there is no such file$"):
        spawning.spawn(refuse_alone, (), nprocs=2)
    assert capfd.readouterr().err == ""


def test_a_long_message_does_not_fill_the_pipe():
    with pytest.raises(AdminError, match="characters left out"):
        spawning.spawn(refuse_at_length, (), nprocs=2)


def test_workers_that_are_done_end_well():
    spawning.spawn(profile, (), nprocs=2)


def test_a_killed_worker_ends_the_others():
    start = time.monotonic()
    with pytest.raises(AdminError, match="worker 1 was ended by SIGKILL; the same command"):
        spawning.spawn(be_killed, (), nprocs=2)
    assert time.monotonic() - start < 30


def test_other_exceptions_are_reported_by_torch():
    with pytest.raises(ProcessRaisedException, match="a fault of the program"):
        spawning.spawn(fail, (), nprocs=2)


def test_processes_import_nothing_of_the_working_directory(monkeypatch):
    """They begin with ``python -c``, which looks there first unless Python is told otherwise."""
    seen = []

    def spawn(*args):
        seen.append(os.environ.get("PYTHONSAFEPATH"))

    monkeypatch.setattr(torch.multiprocessing, "spawn", spawn)
    spawning.spawn(refuse, (), nprocs=2)
    assert seen == ["1"]
