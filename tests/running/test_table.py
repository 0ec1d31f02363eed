"""admin-fairseq table: which runs, resuming, and what is told of those that fail."""

import os

import pytest

from admin_fairseq import cli
from admin_fairseq.commands.table import ALL

from .conftest import options

FAKE = """#!/bin/sh
echo "$OMP_NUM_THREADS: $*"
for word in "$@"; do
    case $before in
        --save-dir) folder=$word ;;
        --scheme) scheme=$word ;;
    esac
    before=$word
done
[ "$scheme" != preln ] || exit 3
mkdir -p "$folder/$scheme-2l-2l-seed1"
log="| INFO | train_inner | loss=1, nll_loss=1, num_updates=600, wall=1"
end="| INFO | fairseq_cli.train | end of epoch 2 (average epoch stats below)"
printf "%s\\n" "$log" "$end" > "$folder/$scheme-2l-2l-seed1/train.log"
[ "$1" = train ] || touch "$folder/$scheme-2l-2l-seed1/evaluation.json"
"""
WORDS = ["--cpu", "--depths", "2", "--seeds", "1"]


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Make a table with a fake admin-fairseq, which trains everything but Pre-LN."""
    (tmp_path / "admin-fairseq").write_text(FAKE)
    (tmp_path / "admin-fairseq").chmod(0o755)
    monkeypatch.setattr("admin_fairseq.running.processes.PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("admin_fairseq.running.table.find_runs", lambda folders: [])

    def run(*words):
        cli.main(["table", "multi30k", "--save-dir", str(tmp_path / "runs"), *WORDS, *words])

    return run


def test_every_run_is_told(dry):
    """Also of those that are done."""
    words = ["--cpu", "--schemes", "admin preln", "--depths", "6 18-3", "--seeds", "1 2"]
    commands = dry("table", "multi30k", *words, "--", "--lr", "1")
    found = [options(command) for command in commands if command[0] == "fairseq-train"]
    names = ("--arch", "--encoder-layers", "--decoder-layers", "--seed")
    assert [tuple(options[name] for name in names) for options in found] == [
        (f"{scheme}_transformer", encoder, decoder, seed)
        for seed in "12"
        for encoder, decoder in (("6", "6"), ("18", "3"))
        for scheme in ("admin", "preln")
    ]
    trains, evaluates = commands[::2], commands[1::2]
    assert all(command[-2:] == ["--lr", "1"] for command in trains)
    assert all(command[:3] == ["admin-fairseq", "evaluate", "multi30k"] for command in evaluates)


def test_all_has_every_scheme_once(dry):
    commands = dry("table", "multi30k", "--schemes", "all", *WORDS)
    assert len(commands) == 2 * len(ALL) == 2 * len(set(ALL))
    assert {"admin", "postln", "preln", "branchnorm"} <= set(ALL)
    assert not {"default", "adaptive", "adaptive-auto", "adaptive-profiling"} & set(ALL)


def test_it_goes_on_where_it_stopped(table, tmp_path):
    log = tmp_path / "runs" / "admin-2l-2l-seed1.log"
    table("--schemes", "admin", "--", "--lr", "2")
    train, evaluate = log.read_text().splitlines()
    assert ": train multi30k" in train and train.endswith("-- --lr 2")
    assert ": evaluate multi30k" in evaluate and "--lr" not in evaluate
    log.unlink()
    table("--schemes", "admin")
    assert not log.exists()
    table("--schemes", "admin", "--", "--max-update", "600")
    assert not log.exists()
    table("--schemes", "admin", "--", "--max-update=601")  # is to be trained further
    assert log.exists()


def test_a_run_that_was_trained_further_is_scored_again(table, tmp_path):
    log, folder = tmp_path / "runs" / "admin-2l-2l-seed1.log", tmp_path / "runs/admin-2l-2l-seed1"
    table("--schemes", "admin")
    log.unlink()
    os.utime(folder / "evaluation.json", (1, 1))
    table("--schemes", "admin")
    assert log.exists()


@pytest.mark.parametrize(
    ("end", "said", "done"),
    [("done training", 600, True), ("done training", 601, False), ("begin training", 600, False)],
)
def test_a_run_that_ended_by_itself_is_done(end, said, done, table, tmp_path):
    """As with --patience, but only for the limits that it had."""
    folder, log = tmp_path / "runs/admin-2l-2l-seed1", tmp_path / "runs/admin-2l-2l-seed1.log"
    words = ["--schemes", "admin", "--", "--max-update", "600", "--patience", "3"]
    table(*words)
    log.unlink()
    config = {"model": {}, "optimization": {"max_update": said, "max_epoch": 0}}
    lines = [config, "loss=1, nll_loss=1, num_updates=9, wall=1", end]
    names = ["fairseq_cli.train", "train_inner", "fairseq_cli.train"]
    text = [f"2026-11-28 01:00:00 | INFO | {name} | {line}\n" for name, line in zip(names, lines)]
    (folder / "train.log").write_text("".join(text))
    (folder / "evaluation.json").touch()
    table(*words)
    assert log.exists() is not done


@pytest.mark.parametrize(("epochs", "done"), [(2, True), (3, False), (0, False)])
def test_a_run_limited_by_epochs_goes_on_until_it_has_made_them(epochs, done, table, tmp_path):
    """As the recipes without --max-update; 0 is no limit, and only fairseq ends such a run."""
    log = tmp_path / "runs" / "admin-2l-2l-seed1.log"
    words = ["--schemes", "admin", "--", "--max-update", "0", "--max-epoch", epochs]
    table(*map(str, words))
    log.unlink()
    table(*map(str, words))
    assert log.exists() is not done


def test_a_run_with_other_settings_is_refused_before_any_is_trained(table, tmp_path):
    table("--schemes", "admin")
    folder = tmp_path / "runs" / "admin-2l-2l-seed1"
    (folder / "settings").write_text("fairseq-train --dropout 0.9\n")
    with pytest.raises(SystemExit) as error:
        table("--schemes", "tfixup admin")
    assert f"{folder}: has a run with other settings" in str(error.value)
    assert not (tmp_path / "runs" / "tfixup-2l-2l-seed1.log").exists()


def test_each_run_is_made_once(dry):
    words = ["--schemes", "admin admin", "--depths", "2 2-2", "--seeds", "1 1"]
    assert len(dry("table", "multi30k", "--cpu", *words)) == 2


def test_a_run_that_fails_stops_no_other(table, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        table("--schemes", "preln admin", "--jobs", "2")
    assert end.value.code == 1
    out, err = capsys.readouterr()
    assert "| dataset |" in out and "preln-2l-2l-seed1: train failed, see" in err
    assert (tmp_path / "runs" / "admin-2l-2l-seed1" / "evaluation.json").exists()
    assert (tmp_path / "runs" / "admin-2l-2l-seed1.log").read_text().startswith("1: train")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--jobs", "x"], "'x' is not a whole number from 1 on"),
        (["--depths", "6 x"], "such as 6 18 60-12"),
        (["--depths", "0"], "such as 6 18 60-12"),
        (["--schemes", "admin foo"], "'admin foo': use all, or names with spaces between them"),
        (["--schemes", ""], "use all, or names"),
    ],
)
def test_mistakes_are_told_in_one_line(words, message):
    with pytest.raises(SystemExit) as error:
        cli.main(["table", "multi30k", "--cpu", *words])
    assert message in str(error.value) and "\n" not in str(error.value)
