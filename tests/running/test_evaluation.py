"""admin-fairseq evaluate: the commands, and what is refused."""

import pytest

from admin_fairseq import cli
from admin_fairseq.errors import AdminError

STEPS = [["admin-fairseq", "average"], ["fairseq-generate"], ["admin-fairseq", "score"]]


def test_every_seed_is_averaged_translated_and_scored_and_a_table_made(dry):
    commands = dry("evaluate", "iwslt14_de_en", "--cpu", "--seeds", "1111 2222")
    wanted = [*STEPS, *STEPS, ["admin-fairseq", "results"]]
    assert [command[: len(words)] for command, words in zip(commands, wanted)] == wanted
    assert len(commands) == 7


def test_a_checkpoint_is_taken_instead_of_an_average(dry):
    words = ["--cpu", "--checkpoint", "checkpoint_best.pt"]
    translate, score, _ = dry("evaluate", "wmt14_en_fr", *words)
    run = "runs/wmt14_en_fr/admin-6l-6l-seed1111"
    assert translate[translate.index("--path") + 1] == f"{run}/checkpoint_best.pt"
    assert score[score.index("--checkpoint") + 1] == "checkpoint_best.pt"
    assert "--averaged" not in score


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--batches", "9"], "use 8 or 128"),
        (["--beam", "0"], "is not a whole number from 1 on"),
        (["--cpu", "--precision", "fp16"], "fp16 needs a GPU"),
        (["--cpu", "--save-dir", "nowhere"], "first run: admin-fairseq train wmt17_en_de"),
    ],
)
def test_mistakes_are_told_in_one_line(words, message):
    with pytest.raises(AdminError) as error:
        cli.main(["evaluate", "wmt17_en_de", *words])
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_translation_that_fails_is_told_in_one_line(tmp_path, monkeypatch):
    """With a fake fairseq-generate; tests/scripts runs the real one."""
    (tmp_path / "fairseq-generate").write_text("#!/bin/sh\necho one >&2\necho why >&2\nexit 1\n")
    (tmp_path / "fairseq-generate").chmod(0o755)
    monkeypatch.setattr("admin_fairseq.running.processes.PATH", str(tmp_path))
    run = tmp_path / "runs" / "admin-6l-6l-seed1"
    run.mkdir(parents=True)
    words = ["--save-dir", str(tmp_path / "runs"), "--seeds", "1", "--checkpoint", "some.pt"]
    with pytest.raises(AdminError, match=r"test\.err: why"):
        cli.main(["evaluate", "wmt14_en_de", "--cpu", *words])
    assert not (run / "test.hyp").exists()
