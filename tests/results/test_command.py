import json
import sys

import pytest

from admin_fairseq import cli
from admin_fairseq.results.runs import VERDICTS, find_runs
from admin_fairseq.results.table import FORMATS, rows_of

from .conftest import log_of

FILES = [
    *("curves.csv", "curves.png", "curves.svg"),
    *("results.csv", "results.json", "results.md", "results.txt"),
]


def test_table_is_printed(make, capsys):
    make("a")
    make("b", log_of([12.5, 8.0, 4.0], init_type="tfixup"))
    cli.main(["results", make.folder])
    printed, errors = capsys.readouterr()
    assert printed == FORMATS["text"][1](rows_of(find_runs([make.folder]))) + "\n" and errors == ""
    cli.main(["results", make.folder, "--format", "csv", "--sort", "training loss"])
    assert [line.split(",")[1] for line in capsys.readouterr().out.splitlines()] == [
        *("scheme", "tfixup", "admin")
    ]


def test_a_baseline_is_passed_on(make, capsys):
    make("a")
    make("b", log_of([12.5, 8.0, 4.0], init_type="tfixup"))
    cli.main(["results", make.folder, "--baseline", "tfixup"])
    assert "updates to baseline" in capsys.readouterr().out


def test_files_are_written(make, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    make("a")
    make("failed", "nothing\n")
    out = tmp_path / "out"
    command = ["results", make.folder, "-o", str(out), "--format", "json"]
    cli.main(command)
    assert sorted(path.name for path in out.iterdir()) == FILES
    assert (out / "results.json").read_text() == capsys.readouterr().out
    assert len((out / "curves.csv").read_text().splitlines()) == 6
    assert "admin 6L-6L" in (out / "curves.svg").read_text()
    (out / "curves.png").write_text("mine")
    cli.main([*command, "--force"])
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_overwritten(name, tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / name).write_text("mine")
    with pytest.raises(SystemExit, match=f"{name}: already exists"):  # before any log is read
        cli.main(["results", "nowhere", "-o", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_without_matplotlib_tables_are_written(make, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "admin_fairseq.studies.drawing", raising=False)
    monkeypatch.delattr("admin_fairseq.studies.drawing", raising=False)
    make("a")
    cli.main(["results", make.folder])
    assert capsys.readouterr().err == ""
    cli.main(["results", make.folder, "-o", str(tmp_path / "out")])
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == [name for name in FILES if not name.endswith((".png", ".svg"))]
    (line,) = capsys.readouterr().err.splitlines()
    assert "no pictures" in line and "pip install matplotlib" in line


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "nowhere: no such folder"),
        (["."], "no train.log there, nor in any folder below"),
        ([".", "--sort", "beauty"], "invalid choice: 'beauty'"),
        ([], "required: DIR"),
    ],
)
def test_mistakes_are_told_in_one_line(words, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as error:
        cli.main(["results", *words])
    assert told in str(error.value) and "\n" not in str(error.value)


def test_help_states_the_rule(capsys):
    with pytest.raises(SystemExit):
        cli.main(["results", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert all(" ".join(verdict.rule.split()) in text for verdict in VERDICTS.values())


def test_json_of_the_publication_is_complete(make, capsys):
    scores = {"compound split": {"score": 27.25, "signature": "x"}}
    make("a", bleu=scores, dataset="wmt14_en_de")
    cli.main(["results", make.folder, "--format", "json"])
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["BLEU compound split"] == {"mean": 27.25, "std": None}
    assert (row["dataset"], row["published BLEU"]) == ("wmt14_en_de", "27.90")
