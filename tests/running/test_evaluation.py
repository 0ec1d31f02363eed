"""admin-fairseq evaluate: the commands, and what is refused."""

import pytest

from admin_fairseq import cli

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
    with pytest.raises(SystemExit) as error:
        cli.main(["evaluate", "wmt17_en_de", *words])
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.fixture
def evaluate(tmp_path, monkeypatch):
    """Evaluate a run with fake commands; tests/scripts runs the real ones."""

    def run(generate):
        """``generate`` is what fairseq-generate does, in the shell's words."""
        for name, words in (("fairseq-generate", generate), ("admin-fairseq", "exit 0")):
            (tmp_path / name).write_text(f"#!/bin/sh\n{words}\n")
            (tmp_path / name).chmod(0o755)
        monkeypatch.setattr("admin_fairseq.running.processes.PATH", str(tmp_path))
        folder = tmp_path / "runs" / "admin-6l-6l-seed1"
        folder.mkdir(parents=True)
        words = ["--save-dir", str(folder.parent), "--seeds", "1", "--checkpoint", "some.pt"]
        cli.main(["evaluate", "wmt14_en_de", "--cpu", *words])

    return run


def test_translations_are_kept_in_the_order_of_the_set(evaluate, tmp_path):
    evaluate(r"printf 'S-1\tx\nH-1\t-0.5\tsecond\nH-0\t-0.5\tfirst\n'")
    kept = tmp_path / "runs" / "admin-6l-6l-seed1" / "test.hyp"
    assert kept.read_text() == "first\nsecond\n"


@pytest.mark.parametrize(
    ("generate", "message"),
    [
        ("echo one >&2; echo why >&2; exit 1", r"test\.err: why"),
        (r"printf 'H-1\t-0.5\tsecond\n'", r"test\.log: sentence 0 has no translation"),
    ],
)
def test_a_translation_that_fails_is_told_in_one_line(evaluate, tmp_path, generate, message):
    with pytest.raises(SystemExit, match=message):
        evaluate(generate)
    assert not list(tmp_path.rglob("test.hyp"))
