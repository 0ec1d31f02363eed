"""Runs that go on where another ended: nothing is lost, and nothing differs."""

import fcntl
import shlex
import shutil
import signal
import time

import pytest
import torch

from admin_fairseq.checkpoints.storage import read_checkpoint

from .conftest import TRAIN, WARMUP
from .test_workers import train_on_two

SAVING = ["--max-tokens", 400, "--save-interval-updates", 8, "--max-epoch", 3]


def same_weights(folder, other):
    mine, its = (read_checkpoint(f / "checkpoint_last.pt")["model"] for f in (folder, other))
    # fairseq 0.12.2 leaves what _float_tensor holds to chance
    names = [name for name in mine if not name.endswith("_float_tensor")]
    return mine.keys() == its.keys() and all(torch.equal(mine[name], its[name]) for name in names)


def goes_on(restarted, losses):
    return 0 < len(restarted) < len(losses) and restarted == losses[-len(restarted) :]


@pytest.fixture(scope="module")
def uninterrupted(run, data, tmp_path_factory):
    """Three epochs in one go, and their losses."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    return folder, run.train(data, folder, *SAVING).losses()


def test_a_damaged_checkpoint_says_how_to_go_on(uninterrupted, run, data, tmp_path):
    """Here in the third epoch, with a process that loads the data."""
    folder, losses = uninterrupted
    last = tmp_path / "checkpoint_last.pt"
    last.write_bytes((folder / last.name).read_bytes()[:-1000])
    shutil.copy(folder / "checkpoint2.pt", tmp_path)
    refused = run.train(data, tmp_path, *SAVING, "--num-workers", 1, status=1)
    line = refused.errors.strip().splitlines()[-1]
    assert line.startswith(f"admin-fairseq: error: {last}: ") and "Traceback" not in refused.errors
    restarted = run(*shlex.split(line.split(" with: ")[1])).losses()
    assert goes_on(restarted, losses) and same_weights(tmp_path, folder)


def test_two_workers_restart_in_the_third_epoch(run, data, tmp_path):
    folder = tmp_path / "uninterrupted"
    whole, _ = train_on_two(run, data, folder, *SAVING)
    restored = ["--restore-file", folder / "checkpoint2.pt"]
    restarted, _ = train_on_two(run, data, tmp_path, *SAVING, *restored)
    assert goes_on(restarted.losses(), whole.losses()) and same_weights(tmp_path, folder)


def test_a_restart_after_a_kill_in_the_second_epoch(uninterrupted, run, data, tmp_path):
    folder, losses = uninterrupted
    command = ["fairseq-train", data, *TRAIN, *WARMUP, "--disable-validation", *SAVING]
    words = ["--arch", "admin_transformer_tiny", "--save-dir", tmp_path]
    killed = run.start(*command, *words)
    while not (tmp_path / "checkpoint_2_16.pt").exists():
        assert killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    restarted = run.train(data, tmp_path, *SAVING).losses()
    assert goes_on(restarted, losses) and same_weights(tmp_path, folder)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in folder.iterdir()}


def test_a_second_run_at_once_is_refused(run, data, tmp_path):
    """Before it has written anything, its profile among it."""
    lock = tmp_path / ".lock"
    with lock.open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        refused = run.train(data, tmp_path, "--init-type", "adaptive-auto", status=1)
    line = refused.errors.strip().splitlines()[-1]
    assert line.startswith(f"admin-fairseq: error: {tmp_path}: another training run is using it")
    assert "Traceback" not in refused.errors
    assert list(tmp_path.iterdir()) == [lock]
