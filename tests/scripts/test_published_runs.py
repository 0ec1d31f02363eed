"""scripts/DATASET: doors to admin-fairseq whose folders are the clone's."""

import shlex

import pytest

from admin_fairseq.recipes.published import PUBLISHED

from .conftest import ROOT, finish, start


@pytest.mark.parametrize("dataset", PUBLISHED)
def test_scripts_work_in_the_clone_and_pass_their_words_on(tmp_path, dataset):
    words = ["--cpu", "--dry-run", "--seeds", "7", "--save-dir", "elsewhere", "--", "--x", "a b"]
    for script in ("train.sh", "evaluate.sh"):
        output, _ = finish(start(f"{dataset}/{script}", *words, cwd=tmp_path))
        commands = [shlex.split(line) for line in output.splitlines()]
        (command,) = (c for c in commands if c[0] in ("fairseq-train", "fairseq-generate"))
        assert command[1] == f"{ROOT}/data/{dataset}/bin"
        assert command[-2:] == ["--x", "a b"] and "elsewhere/" in " ".join(command)
    assert not list(tmp_path.iterdir())


def test_mistakes_are_told_in_one_line(tmp_path):
    output, errors = finish(start("multi30k/table.sh", "--jobs", "x", cwd=tmp_path), status=1)
    assert not output and "--jobs x: use a whole number" in errors
    assert len(errors.splitlines()) == 1


def test_the_table_prints_its_commands(tmp_path):
    """Also of runs that are done."""
    done = tmp_path / "runs" / "admin-6l-6l-seed1"
    done.mkdir(parents=True)
    (done / "evaluation.json").touch()
    words = ["--cpu", "--schemes", "admin", "--depths", "6 18", "--jobs", "2", "--dry-run"]
    words += ["--save-dir", tmp_path / "runs"]
    output, _ = finish(start("multi30k/table.sh", *words, cwd=tmp_path))
    found = [
        (words[words.index("--encoder-layers") + 1], words[words.index("--seed") + 1])
        for words in map(shlex.split, output.splitlines())
    ]
    assert found == [("6", "1"), ("18", "1"), ("6", "2"), ("18", "2")]
