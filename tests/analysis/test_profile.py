import csv
import os

import pytest

pytest.importorskip("matplotlib")

from admin_fairseq import cli
from admin_fairseq.profiling.profile import Entry, Profile


def test_a_file_may_have_any_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    os.mkdir("=1+")
    name = os.fsdecode(b"=1+/$^$\x1b\xff<b>.json")
    Profile([Entry("encoder", 0, "ffn", 1.0, 1.7e308, 1e38)]).write(name)
    cli.main(["analyze", "profile", f"./{name}", "-o", "out"])
    with open("out/profile.csv") as file:
        (row,) = csv.DictReader(file)
    shown = r"=1+/$^$\x1b\udcff<b>.json"
    assert row["profile"] == rf"\x3d{shown[1:]}"
    assert f"{shown}, encoder: ω from 1e+38" in capsys.readouterr().out
