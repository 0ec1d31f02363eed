"""scripts/DATASET: doors to admin-fairseq whose folders are the clone's."""

import shlex

import pytest

from admin_fairseq.recipes.published import PUBLISHED

from ..integration.shims import ROOT
from .conftest import finish


@pytest.mark.parametrize(
    "script", [*(f"{dataset}/train.sh" for dataset in PUBLISHED), "wmt14_en_de/evaluate.sh"]
)
def test_scripts_work_in_the_clone_and_pass_their_words_on(start, tmp_path, script):
    words = ["--cpu", "--dry-run", "--seeds", "7", "--save-dir", "elsewhere", "--", "--x", "a b"]
    output, _ = finish(start(script, *words, cwd=tmp_path))
    commands = [shlex.split(line) for line in output.splitlines()]
    (command,) = (c for c in commands if c[0] in ("fairseq-train", "fairseq-generate"))
    assert command[1] == f"{ROOT}/data/{script.split('/')[0]}/bin"
    words = command[: command.index(">")] if ">" in command else command
    assert words[-2:] == ["--x", "a b"] and "elsewhere/" in " ".join(command)
    assert not list(tmp_path.iterdir())


def test_every_data_set_has_its_scripts():
    """Which differ in their names alone."""
    for name in ("train.sh", "evaluate.sh", "prepare.sh"):
        texts = {
            (ROOT / "scripts" / dataset / name).read_text().splitlines()[-1].replace(dataset, "")
            for dataset in PUBLISHED
        }
        assert len(texts) == 1, name
