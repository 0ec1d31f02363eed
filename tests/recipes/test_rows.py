"""Files for hydra, as admin-fairseq configs writes them (tests/configs composes the rows)."""

import pytest
import yaml

from admin_fairseq import cli
from admin_fairseq.architectures import ARCHITECTURES
from admin_fairseq.recipes.rows import WIDTH, config_files


def test_every_file_is_yaml_with_its_name_in_lines_of_the_usual_width():
    files = config_files()
    for path, text in files.items():
        folder, name = path[: -len(".yaml")].split("/")
        content = yaml.safe_load(text)
        if folder in ("model", "optimizer", "lr_scheduler"):
            assert content["_name"] == name and text.startswith("# @package _group_\n")
        assert max(map(len, text.splitlines())) <= WIDTH
    assert {f"model/{name}.yaml" for name in ARCHITECTURES} <= set(files)


def test_files_that_were_edited_stay_without_force(tmp_path):
    cli.main(["configs", str(tmp_path)])
    written = {str(p.relative_to(tmp_path)): p.read_text() for p in tmp_path.rglob("*.yaml")}
    assert written == config_files()
    cli.main(["configs", str(tmp_path)])
    mine = tmp_path / "optimizer" / "radam.yaml"
    mine.write_text("_name: radam\n")
    with pytest.raises(SystemExit, match=r"radam\.yaml: differs .*--force replaces it"):
        cli.main(["configs", str(tmp_path)])
    assert mine.read_text() == "_name: radam\n"
    cli.main(["configs", str(tmp_path), "--force"])
    assert mine.read_text() == written["optimizer/radam.yaml"]
