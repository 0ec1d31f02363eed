import errno
import fcntl
import os
import subprocess
import sys
import time

import pytest
from fairseq import checkpoint_utils
from fairseq.dataclass.configs import FairseqConfig
from fairseq.distributed import utils as distributed_utils
from omegaconf import OmegaConf

from admin_fairseq.errors import AdminError
from admin_fairseq.repairs import save_dir

OTHER_RUN = """
import fcntl, os, sys, time
file = open(sys.argv[1], "w")
fcntl.lockf(file, fcntl.LOCK_EX)
if os.fork() == 0:  # a worker that loads data
    time.sleep(30)
print("locked", flush=True)
time.sleep(30)
"""


@pytest.fixture
def other_run(tmp_path):
    words = [sys.executable, "-c", OTHER_RUN, tmp_path / ".lock"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout.readline() == "locked\n"
    yield process
    os.killpg(process.pid, 9)
    process.wait()


def test_whether_a_folder_is_taken(tmp_path, request):
    assert not save_dir.is_taken(str(tmp_path))
    (tmp_path / ".lock").touch()
    assert not save_dir.is_taken(str(tmp_path))
    request.getfixturevalue("other_run")
    assert save_dir.is_taken(str(tmp_path))


def test_two_runs_at_once(other_run, tmp_path):
    (tmp_path / ".checkpoint1.pt-12345678.admin-fairseq").touch()
    with pytest.raises(AdminError, match=r"another training run is using it; .*--save-dir$"):
        checkpoint_utils.verify_checkpoint_directory(str(tmp_path))
    assert (tmp_path / ".checkpoint1.pt-12345678.admin-fairseq").exists()
    other_run.kill()
    time.sleep(0.2)  # its worker is still there
    checkpoint_utils.verify_checkpoint_directory(str(tmp_path))


def test_one_run_after_the_other_in_a_process(tmp_path):
    for _ in range(2):
        checkpoint_utils.verify_checkpoint_directory(str(tmp_path / "new"))
    assert os.listdir(tmp_path / "new") == [".lock"]


def test_nothing_is_left_however_a_run_ends(tmp_path):
    def run(cfg, error):
        checkpoint_utils.verify_checkpoint_directory(str(tmp_path))
        assert os.listdir(tmp_path) == [".lock"]
        if error:
            raise error

    cfg = OmegaConf.structured(FairseqConfig())
    cfg.common.cpu = True
    distributed_utils.call_main(cfg, run, error=None)
    assert not os.listdir(tmp_path)
    with pytest.raises(AdminError):
        distributed_utils.call_main(cfg, run, error=AdminError("a reason"))
    assert not os.listdir(tmp_path)


def test_runs_that_save_nothing_share_a_folder(other_run, tmp_path):
    cfg = OmegaConf.structured(FairseqConfig())
    cfg.common.cpu = cfg.checkpoint.no_save = True
    distributed_utils.call_main(cfg, lambda cfg: verify(tmp_path))
    with pytest.raises(AdminError, match="another training run is using it"):
        verify(tmp_path)


def verify(folder):
    checkpoint_utils.verify_checkpoint_directory(str(folder))


def test_a_lock_on_a_file_that_its_run_has_just_removed_is_none(tmp_path, monkeypatch):
    """Another run may have locked the file that lies there now."""
    removed, lockf = [], fcntl.lockf

    def lock(descriptor, how):
        lockf(descriptor, how)
        if not removed:
            os.remove(tmp_path / ".lock")
            removed.append(True)

    monkeypatch.setattr(fcntl, "lockf", lock)
    verify(tmp_path)
    assert removed and os.listdir(tmp_path) == [".lock"]


def test_a_file_system_without_locks(tmp_path, monkeypatch, caplog):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", no_locks)
    checkpoint_utils.verify_checkpoint_directory(str(tmp_path))
    assert f"{tmp_path}: its file system has no locks (No locks available)" in caplog.text


@pytest.mark.parametrize("where", ["save", "save/.lock"])
def test_no_place_for_checkpoints(where, tmp_path):
    save_dir = tmp_path / "save"
    if where == "save":
        save_dir.touch()
    else:
        (save_dir / ".lock").mkdir(parents=True)
    with pytest.raises(AdminError, match="save: checkpoints cannot be written there: "):
        checkpoint_utils.verify_checkpoint_directory(str(save_dir))


def test_remains_of_killed_runs_go(tmp_path):
    kept = ["checkpoint1.pt", ".checkpoint1.pt-20240115", ".notes-12345678.admin-fairseq", "a.tmp"]
    for name in [*kept, ".checkpoint_1_3.pt-0a1b2c3d.admin-fairseq", "checkpoint2.pt.tmp"]:
        (tmp_path / name).touch()
    checkpoint_utils.verify_checkpoint_directory(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, ".lock"])
