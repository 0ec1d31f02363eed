import json
import os

import pytest

from admin_fairseq.errors import AdminError
from admin_fairseq.files import refuse_to_overwrite, replacing, replacing_folder, write_json


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
    with pytest.raises(AdminError, match=f"{tmp_path}: is there already; use --force"):
        refuse_to_overwrite(str(tmp_path), force=False)


def test_what_came_to_be_there_meanwhile_is_not_overwritten(tmp_path):
    path = tmp_path / "output"
    with pytest.raises(AdminError, match="is there already"), replacing(str(path), force=False):
        path.write_text("precious")
    assert path.read_text() == "precious"
    folder = tmp_path / "folder"
    with (
        pytest.raises(AdminError, match="is there already"),
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
