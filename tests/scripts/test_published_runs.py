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
