"""admin-fairseq evaluate: the commands, and what is refused."""

import os
import subprocess

import pytest

from admin_fairseq import cli

STEPS = [
    *(["admin-fairseq", "average"], ["fairseq-generate"], ["sed", "-n", "s/^D-//p"]),
    ["admin-fairseq", "score"],
]


def test_every_seed_is_averaged_translated_and_scored_and_a_table_made(dry):
    commands = dry("evaluate", "iwslt14_de_en", "--cpu", "--seeds", "1111 2222")
    wanted = [*STEPS, *STEPS, ["admin-fairseq", "results"]]
    assert [command[: len(words)] for command, words in zip(commands, wanted)] == wanted
    assert len(commands) == 9


@pytest.mark.parametrize("word", ["--beam", "--lenpen=0.5", "--path", "--gen-subset"])
def test_what_would_be_recorded_otherwise_is_not_passed_on(dry, word):
    with pytest.raises(SystemExit, match=f"{word.split('=')[0]} after --: would not be recorded"):
        dry("evaluate", "iwslt14_de_en", "--cpu", "--", word, "1")


def test_a_checkpoint_is_taken_instead_of_an_average(dry):
    words = ["--cpu", "--checkpoint", "checkpoint_best.pt"]
    translate, _, score, _ = dry("evaluate", "wmt14_en_fr", *words)
    run = "runs/wmt14_en_fr/admin-6l-6l-seed1111"
    assert translate[translate.index("--path") + 1] == f"{run}/checkpoint_best.pt"
    assert score[score.index("--checkpoint") + 1] == "checkpoint_best.pt"
    assert "--averaged" not in score


TRAIN = (
    "admin-fairseq train wmt17_en_de --cpu --scheme admin --encoder-layers 6 --decoder-layers 6 "
    "--seeds 1111 --precision auto --data-dir data/wmt17_en_de --save-dir nowhere"
)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--batches", "9"], "use 8 or 128"),
        (["--beam", "0"], "is not a whole number from 1 on"),
        (["--cpu", "--precision", "fp16"], "fp16 needs a GPU"),
        (["--cpu", "--save-dir", "nowhere"], f"first run: {TRAIN}"),
    ],
)
def test_mistakes_are_told_in_one_line(words, message):
    with pytest.raises(SystemExit) as error:
        cli.main(["evaluate", "wmt17_en_de", *words])
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.fixture
def evaluate(tmp_path, monkeypatch):
    """Evaluate a run with fake commands; tests/scripts runs the real ones."""

    def run(generate, *words):
        """``generate`` is what fairseq-generate does, in the shell's words."""
        if not words:
            for name, does in (("fairseq-generate", generate), ("admin-fairseq", "exit 0")):
                (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
                (tmp_path / name).chmod(0o755)
        monkeypatch.setattr("admin_fairseq.running.processes.PATH", str(tmp_path))
        folder = tmp_path / "r u'ns" / "admin-6l-6l-seed1"
        folder.mkdir(parents=True, exist_ok=True)
        usual = ["--save-dir", str(folder.parent), "--seeds", "1", "--checkpoint", "some.pt"]
        cli.main(["evaluate", "wmt14_en_de", "--cpu", *usual, *words])

    return run


def test_printed_lines_can_be_pasted(evaluate, tmp_path, capsys):
    """They leave the files that the command leaves, also in a folder whose name needs quotes."""
    evaluate(r"printf 'S-1\tx\nH-1\t-1\t2 b\nD-1\t-1\t2b\nH-0\t-1\t1\nD-0\t-1\t1\n'; echo oh >&2")
    folder = tmp_path / "r u'ns" / "admin-6l-6l-seed1"
    made = {name: (folder / name).read_text() for name in ("test.log", "test.err", "test.hyp")}
    assert made["test.hyp"] == "1\n2b\n"
    for name in made:
        (folder / name).unlink()
    evaluate("", "--dry-run")
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-ec", capsys.readouterr().out], check=True, env=environment)
    assert {name: (folder / name).read_text() for name in made} == made


def test_translations_are_kept_in_the_order_of_the_set(evaluate, tmp_path):
    evaluate(r"printf 'S-1\tx\nH-1\t-0.5\tsecond\nH-0\t-0.5\tfirst\n'")
    kept = tmp_path / "r u'ns" / "admin-6l-6l-seed1" / "test.hyp"
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
