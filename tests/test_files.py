import fcntl
import json
import multiprocessing
import os
import time

import pytest

from admin_fairseq.errors import AdminError
from admin_fairseq.files import (
    check_json,
    read_json,
    read_text,
    refuse_to_overwrite,
    replacing,
    replacing_folder,
    write_all,
    write_json,
)


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new folder" / "file.json"
    write_json({"a": [1, None]}, str(path))
    assert json.loads(path.read_text()) == {"a": [1, None]}
    for broken in ({"not JSON": object()}, {"not JSON": float("nan")}):
        with pytest.raises((TypeError, ValueError)):
            write_json(broken, str(path))
    assert json.loads(path.read_text()) == {"a": [1, None]}
    assert list(path.parent.iterdir()) == [path]


def test_what_cannot_be_written_gets_one_line(tmp_path):
    with pytest.raises(AdminError, match="cannot be written: Is a directory"):
        write_json({}, str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_failure_in_the_middle_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), replacing(str(path)) as file:
        file.write(b"half of the new")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_whole(tmp_path):
    path = tmp_path / "deeper" / "folder"
    for content in ("old", "new"):
        with replacing_folder(str(path)) as new:
            (tmp_path / new / content).touch()
            assert not os.path.exists(path) or os.listdir(path) == ["old"]
        assert os.listdir(path) == [content]
    with pytest.raises(ZeroDivisionError), replacing_folder(str(path)):
        raise ZeroDivisionError
    assert os.listdir(path) == ["new"]
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_gets_one_line(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(AdminError, match="cannot be written"),
        replacing_folder(str(tmp_path / "file" / "folder")),
    ):
        pass


def test_nothing_is_overwritten_unasked(tmp_path):
    refuse_to_overwrite(str(tmp_path / "free"), force=False)
    refuse_to_overwrite(str(tmp_path), force=True)
    with pytest.raises(AdminError, match=f"{tmp_path}: already exists; use --force"):
        refuse_to_overwrite(str(tmp_path), force=False)


def test_what_came_to_be_there_meanwhile_is_not_overwritten(tmp_path):
    path = tmp_path / "output"
    with pytest.raises(AdminError, match="already exists"), replacing(str(path), force=False):
        path.write_text("precious")
    assert path.read_text() == "precious"
    folder = tmp_path / "folder"
    with (
        pytest.raises(AdminError, match="already exists"),
        replacing_folder(str(folder), force=False),
    ):
        folder.mkdir()
    assert sorted(os.listdir(tmp_path)) == ["folder", "output"]


def test_the_old_folder_comes_back_if_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    path, rename = tmp_path / "folder", os.rename
    with replacing_folder(str(path)) as new:
        (tmp_path / new / "old").touch()

    def fail_for_new(source, target):
        if source.endswith("new"):
            raise OSError(5, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail_for_new)
    with pytest.raises(AdminError, match="Input/output error"), replacing_folder(str(path)):
        pass
    assert os.listdir(tmp_path) == ["folder"]
    assert os.listdir(path) == ["old"]


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    steps = []
    for name in ("fsync", "replace"):
        step = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *args, name=name, step=step: (steps.append(name), step(*args))
        )
    write_json({}, str(tmp_path / "file"))
    assert steps == ["fsync", "replace"]


def test_a_temporary_file_that_was_taken_for_remains_is_made_again(tmp_path, monkeypatch):
    """Between its making and its locking another process may clear it."""
    removed, flock = [], fcntl.flock

    def lock(descriptor, how):
        flock(descriptor, how)
        if not removed:
            removed.extend(tmp_path.iterdir())
            removed[0].unlink()

    monkeypatch.setattr(fcntl, "flock", lock)
    write_json({}, str(tmp_path / "file"))
    assert removed and [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_modes_follow_the_umask(mask, tmp_path):
    old = os.umask(mask)
    try:
        write_json({}, str(tmp_path / "file"))
        with replacing_folder(str(tmp_path / "folder")):
            pass
    finally:
        os.umask(old)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~mask
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o777 & ~mask


def test_a_name_as_long_as_names_can_be_is_written(tmp_path):
    for name in ("n" * 255, "ü" * 127):
        write_json({}, str(tmp_path / name))
        write_json({}, str(tmp_path / name))
    assert len(list(tmp_path.iterdir())) == 2


def write(replace, path, writing):
    with replace(path):
        writing.set()
        time.sleep(60)


@pytest.mark.parametrize("kind", [replacing, replacing_folder], ids=lambda kind: kind.__name__)
def test_what_a_killed_process_leaves_goes_with_the_next_and_no_others_work(kind, tmp_path):
    path = tmp_path / "output"
    forked, writers = multiprocessing.get_context("fork"), []
    for _ in range(2):
        writing = forked.Event()
        writers.append(forked.Process(target=write, args=(kind, str(path), writing), daemon=True))
        writers[-1].start()
        assert writing.wait(60)
    assert len(os.listdir(tmp_path)) == 2, "each has a temporary name of its own"
    writers[0].kill()
    writers[0].join()
    assert len(os.listdir(tmp_path)) == 2
    if kind is replacing:
        write_json({}, str(path))
    else:
        with replacing_folder(str(path)):
            pass
    assert len(os.listdir(tmp_path)) == 2, "the output, and the work of the one who lives"
    writers[1].kill()
    writers[1].join()
    others = [".output-20240115", ".output-original", "other"]  # of the user's own
    for name in others:
        (tmp_path / name).touch()
    if kind is replacing:
        write_json({}, str(path))
    else:
        with replacing_folder(str(path)):
            pass
    assert sorted(os.listdir(tmp_path)) == [*others, "output"]


def test_a_folder_killed_between_its_two_renames_comes_to_its_place(tmp_path):
    left = tmp_path / ".output-0a1b2c3d.admin-fairseq"
    for name in ("old", "new"):
        (left / name).mkdir(parents=True)
        (left / name / name).touch()
    with (
        pytest.raises(AdminError, match="already exists"),
        replacing_folder(str(tmp_path / "output"), force=False),
    ):
        pass
    assert os.listdir(tmp_path) == ["output"]
    assert os.listdir(tmp_path / "output") == ["new"]


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for path in (tmp_path / "fifo", tmp_path / "zero", tmp_path):
        reason = "Is a directory" if path == tmp_path else "not a regular file"
        with pytest.raises(AdminError, match=f"{path}: cannot be read: {reason}"):
            read_text(str(path))
    with pytest.raises(AdminError, match="nowhere: cannot be read: No such file"):
        read_text(str(tmp_path / "nowhere"))


def test_text_has_a_size_and_an_encoding(tmp_path):
    path = tmp_path / "file"
    path.write_text("ü" * 500)
    assert read_text(str(path), largest=1000) == "ü" * 500
    with pytest.raises(AdminError, match=f"{path}: larger than"):
        read_text(str(path), largest=999)
    path.write_bytes(b"\xff")
    with pytest.raises(AdminError, match=f"{path}: not UTF-8 text"):
        read_text(str(path))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expecting value"),
        ("[1]", "Expected `object`"),
        ('{"a": 1, "a": 2}', "the key 'a' occurs twice"),
        ('{"a": NaN}', "NaN is not a finite number"),
        ('{"a": -Infinity}', "-Infinity is not a finite number"),
        ('{"a": 1e400}', "1e400 is not a finite number"),
        ('{"a": 1' + "0" * 5000 + "}", "too large a number"),
        ('{"a": true}', r"Expected `float`, got `bool` - at `\$\[...\]`"),
        ('{"a": "1"}', "Expected `float`, got `str`"),
        ('{"a": "\\ud800"}', "surrogates not allowed"),
        ('{"a":' * 100_000, "recursion"),
    ],
)
def test_json_is_strict(text, reason):
    with pytest.raises(AdminError, match=f"^not a letter, or a damaged one: .*{reason}"):
        check_json(text, dict[str, float], "a letter")


def test_json_that_fits_is_returned(tmp_path):
    (tmp_path / "x.json").write_text('{"a": 1, "b": 2.5}')
    assert read_json(str(tmp_path / "x.json"), dict[str, float], "a letter") == {"a": 1, "b": 2.5}
    with pytest.raises(AdminError, match=r"x\.json: not numbers"):
        read_json(str(tmp_path / "x.json"), dict[str, int], "numbers")


def test_files_are_written_all_or_none(tmp_path, monkeypatch):
    fsync, calls = os.fsync, []

    def fail_at_last(descriptor):
        calls.append(descriptor)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    files = {name: name.encode() for name in "abc"}
    monkeypatch.setattr(os, "fsync", fail_at_last)
    with pytest.raises(AdminError, match="c: cannot be written: No space left on device"):
        write_all(files, str(tmp_path), force=False)
    assert not list(tmp_path.iterdir())
    write_all(files, str(tmp_path), force=False)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files
    with pytest.raises(AdminError, match="already exists"):
        write_all(files, str(tmp_path), force=False)
