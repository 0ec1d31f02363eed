import errno
import os
from types import SimpleNamespace

import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.file_io import PathManager

from admin_fairseq.errors import AdminError
from admin_fairseq.repairs import saving

STATE = {"model": {f"w{i}": torch.full((9000,), float(i)) for i in range(3)}}
OLD = b"the checkpoint before"


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "checkpoint_1_3.pt"
    path.write_bytes(OLD)
    return path


@pytest.fixture
def stopping(monkeypatch):
    """torch.save whose file fails in the midst of it, as often as there are errors."""
    write, tries = torch.save, []
    monkeypatch.setattr(saving, "PAUSE", 0)

    def stop_with(*errors):
        rest = iter(errors)

        def save(content, file):
            error, calls = next(rest, None), []
            tries.append(error)

            def failing(data):
                calls.append(data)
                if error is not None and len(calls) == 4:
                    raise error
                return file.write(data)

            write(content, SimpleNamespace(write=failing, flush=file.flush))

        monkeypatch.setattr(torch, "save", save)
        return tries

    return stop_with


def saved(path):
    found = torch.load(path)["model"]
    return all(torch.equal(found[name], weight) for name, weight in STATE["model"].items())


def test_fairseq_saves_as_before(checkpoint):
    checkpoint_utils.torch_persistent_save(STATE, str(checkpoint))
    assert saved(checkpoint)
    assert os.listdir(checkpoint.parent) == [checkpoint.name]


def test_a_write_error_that_passes(stopping, checkpoint):
    """Nothing of the first try is left in the file: its size is that of a single try."""
    tries = stopping(OSError(errno.EIO, "shaky disk"), OSError(errno.EIO, "shaky disk"))
    checkpoint_utils.torch_persistent_save(STATE, str(checkpoint))
    assert len(tries) == 3 and saved(checkpoint)
    size = checkpoint.stat().st_size
    checkpoint_utils.torch_persistent_save(STATE, str(checkpoint))
    assert checkpoint.stat().st_size == size


def test_a_write_error_that_stays(stopping, checkpoint):
    tries = stopping(*[OSError(errno.ENOSPC, "No space left on device")] * 9)
    with pytest.raises(AdminError, match=r"checkpoint_1_3\.pt: cannot be written: No space left"):
        checkpoint_utils.torch_persistent_save(STATE, str(checkpoint))
    assert len(tries) == saving.TRIES
    assert checkpoint.read_bytes() == OLD
    assert os.listdir(checkpoint.parent) == [checkpoint.name]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_ends_it_at_once(stop, stopping, checkpoint):
    """torch's writer tells another error after it, which fairseq takes for one that passes."""
    tries = stopping(stop())
    with pytest.raises(stop):
        checkpoint_utils.torch_persistent_save(STATE, str(checkpoint))
    assert len(tries) == 1
    assert checkpoint.read_bytes() == OLD
    assert os.listdir(checkpoint.parent) == [checkpoint.name]


def test_what_cannot_be_saved_is_said_as_it_is(checkpoint):
    with pytest.raises(Exception, match="pickle"):
        checkpoint_utils.torch_persistent_save({"model": lambda: None}, str(checkpoint))
    assert checkpoint.read_bytes() == OLD


def test_copies_replace_what_was_there_when_they_are_whole(checkpoint, monkeypatch):
    last = checkpoint.with_name("checkpoint_last.pt")
    last.write_bytes(b"older")
    seen = []
    copy = saving.shutil.copyfileobj
    monkeypatch.setattr(
        saving.shutil, "copyfileobj", lambda *a: (copy(*a), seen.append(last.read_bytes()))
    )
    assert checkpoint_utils.PathManager.copy(str(checkpoint), str(last), overwrite=True)
    assert seen == [b"older"] and last.read_bytes() == OLD
    assert not os.path.samefile(checkpoint, last)


def test_a_copy_that_fails_leaves_the_old_checkpoint(checkpoint, monkeypatch):
    def full(source, target, length):
        target.write(source.read(5))
        raise OSError(errno.ENOSPC, "No space left on device")

    last = checkpoint.with_name("checkpoint_last.pt")
    last.write_bytes(b"older")
    monkeypatch.setattr(saving.shutil, "copyfileobj", full)
    with pytest.raises(AdminError, match=r"checkpoint_last\.pt: cannot be written: No space"):
        checkpoint_utils.PathManager.copy(str(checkpoint), str(last), overwrite=True)
    assert last.read_bytes() == b"older"
    assert sorted(os.listdir(checkpoint.parent)) == [checkpoint.name, last.name]


def test_what_iopath_looks_after_stays_with_it(monkeypatch):
    asked = []
    monkeypatch.setattr(PathManager, "path_requires_pathmanager", lambda path: "://" in path)
    monkeypatch.setattr(PathManager, "copy", lambda *words: asked.append(words) or True)
    assert checkpoint_utils.PathManager.copy("s3://x/a.pt", "s3://x/b.pt", True)
    assert asked == [("s3://x/a.pt", "s3://x/b.pt", True)]


@pytest.mark.parametrize("path, in_background", [("s3://x/a.pt", False), ("a.pt", True)])
def test_what_fairseq_writes_itself(path, in_background, monkeypatch):
    asked = []
    monkeypatch.setattr(PathManager, "path_requires_pathmanager", lambda path: "://" in path)
    write = saving._whole(lambda *words: asked.append(words))
    write(STATE, path, in_background)
    assert asked == [(STATE, path, in_background)]


def test_a_full_disk_is_told_as_such():
    with (
        open("/dev/full", "wb", buffering=0) as full,
        pytest.raises(OSError, match="No space left"),
    ):
        saving.save({"w": torch.ones(10)}, full)
