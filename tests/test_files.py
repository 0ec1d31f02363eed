import json

import pytest

from admin_fairseq.errors import AdminError
from admin_fairseq.files import write_json


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
