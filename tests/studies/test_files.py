"""Where the files of a study may be written."""

import pytest

from admin_fairseq.errors import AdminError
from admin_fairseq.studies.files import check_folder


def test_what_is_read_is_not_replaced(tmp_path):
    profile = tmp_path / "profile.json"
    profile.write_text("{}")
    names = ["profile.json", "profile.csv"]
    with pytest.raises(AdminError, match=r"profile\.json: would be replaced, and is read"):
        check_folder(str(tmp_path), names, True, [f"{tmp_path}/../{tmp_path.name}/profile.json"])
    with pytest.raises(AdminError, match="already exists"):
        check_folder(str(tmp_path), names, False)
    check_folder(str(tmp_path), names, True)
    check_folder(str(tmp_path / "new" / "folder"), names, False, [str(profile)])
    (tmp_path / "train.log").touch()
    with pytest.raises(AdminError, match=r"has a run, whose profile\.json is its scheme's"):
        check_folder(str(tmp_path), names, True)


def test_a_folder_without_a_name_is_refused():
    with pytest.raises(AdminError, match="--output-dir is empty"):
        check_folder("", ["a"], True)
