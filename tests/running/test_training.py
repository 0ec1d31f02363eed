"""admin-fairseq train: the commands, what is refused, and one run for each folder."""

import json
import os

import pytest

from admin_fairseq import cli
from admin_fairseq.running.training import _fixed_arguments

from .conftest import options


@pytest.mark.parametrize(
    ("words", "launch", "frequency", "world"),
    [
        (["--gpus", "8"], "fairseq-train", "10", "8"),
        (["--gpus", "4"], "fairseq-train", "20", "4"),
        (["--gpus", "8", "--encoder-layers", "60"], "fairseq-train", "32", "8"),
        (
            ["--gpus", "8", "--nodes", "2", "--launcher", "slurm"],
            "srun --kill-on-bad-exit=1 --nodes 2 --ntasks-per-node 8 --gpus-per-node 8 "
            "fairseq-train",
            *("5", "16"),
        ),
        (
            ["--gpus", "8", "--nodes", "2", "--endpoint", "first:29"],
            "torchrun --nnodes 2 --nproc_per_node 8 --rdzv_backend c10d --rdzv_endpoint first:29",
            *("5", "16"),
        ),
    ],
)
def test_any_number_of_gpus_makes_the_published_batch(dry, words, launch, frequency, world):
    (command,) = dry("train", "wmt14_en_fr", *words)
    assert " ".join(command).startswith(launch)
    assert options(command)["--update-freq"] == frequency
    assert options(command)["--distributed-world-size"] == world


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["wmt14_en_de", "--gpus", "3"],
            "3 GPUs cannot share the published batch (4 x",
        ),
        (["wmt14_en_de", "--gpus", "2", "--nodes", "2"], "--endpoint"),
        (["wmt14_en_de", "--cpu", "--nodes", "2"], "with --cpu, a run uses one node only"),
        (["iwslt14_de_en", "--gpus", "1", "--recipe", "x"], "use tfixup or admin or no-warmup"),
        (["iwslt14_de_en", "--gpus", "1", "--precision", "x"], "invalid choice: 'x'"),
        (
            ["iwslt14_de_en", "--gpus", "1", "--scheme", "foo"],
            "'foo' (choose from",
        ),
        (["iwslt14_de_en", "--cpu", "--precision", "fp16"], "fp16 needs a GPU"),
        (["wmt14_en_de", "--gpus", "0"], "'0' is not a whole number from 1 on"),
        (["wmt14_en_de", "--gpus", "1", "--nodes", "x"], "'x' is not a whole number from 1 on"),
        (["wmt17_en_de", "--gpus", "1", "--batches", "9"], "use 8 or 128"),
        (["wmt14_en_de", "--gpus", "1", "--seeds", ""], "use numbers with spaces"),
        (["wmt14_en_de", "--gpus", "1", "--recipe", "admin-torch"], "for --scheme admin: use"),
    ],
)
def test_mistakes_are_told_in_one_line(dry, capsys, words, message):
    with pytest.raises(SystemExit) as error:
        dry("train", *words)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not capsys.readouterr().out


def test_without_a_gpu_a_dry_run_has_the_published_ones(dry, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    (command,) = dry("train", "wmt14_en_de")
    assert options(command)["--distributed-world-size"] == "4"
    (command,) = dry(
        "train", "wmt14_en_fr", *["--encoder-layers", "60", "--nodes", "2", "--launcher", "slurm"]
    )
    assert options(command)["--distributed-world-size"] == "16"
    with pytest.raises(SystemExit, match="no GPU is visible"):
        cli.main(["train", "wmt14_en_de"])


def test_words_after_two_dashes_are_fairseqs(dry):
    (command,) = dry("train", "wmt14_en_de", "--gpus", 4, "--", "--lr", "it's 1", "--", "--cpu")
    assert command[-4:] == ["--lr", "it's 1", "--", "--cpu"]


def test_what_another_optimizer_schedule_or_loss_lacks_is_left_out(dry):
    (published,) = dry("train", "multi30k", "--cpu", "--recipe", "long")
    expected = options(published)
    chosen = {"--optimizer": "sgd", "--lr-scheduler": "fixed", "--criterion": "cross_entropy"}
    lacks = ("--adam-betas", "--warmup-init-lr", "--label-smoothing")
    words = [f"{name}={value}" for name, value in chosen.items()]
    (command,) = dry("train", "multi30k", "--cpu", "--recipe", "long", "--", *words)
    assert command[-3:] == words and not set(lacks).intersection(command)
    found = options(command[:-3])
    assert found == {name: value for name, value in expected.items() if name not in lacks}
    for word in ("adam_fused", "no_such_optimizer"):
        (command,) = dry(
            "train", "multi30k", "--cpu", "--recipe", "long", "--", "--optimizer", word
        )
        assert options(command) == {**expected, "--optimizer": word}


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Train with a fake fairseq-train: what is asked is whether it would be started."""
    for name in ("fairseq-train", "srun"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\necho "{name} started"\nexit $STATUS\n')
        (tmp_path / "bin" / name).chmod(0o755)
    path = os.pathsep.join((str(tmp_path / "bin"), os.environ["PATH"]))
    monkeypatch.setattr("admin_fairseq.running.processes.PATH", path)
    monkeypatch.setenv("STATUS", "0")
    prepared = {"dataset": "wmt14_en_de", "target": "de", "lowercase": False}
    (tmp_path / "prepared.json").write_text(json.dumps(prepared))

    def run(*words):
        places = ["--data-dir", str(tmp_path), "--save-dir", str(tmp_path / "runs")]
        cli.main(["train", "wmt14_en_de", *places, *words])

    return run


@pytest.mark.parametrize("scheme", ["b2t", "dlcl"])
def test_a_scheme_with_a_recipe_of_its_own_name_trains_by_it(dry, scheme):
    words = ["wmt14_en_de", "--gpus", "4", "--encoder-layers", "30", "--scheme", scheme]
    (itself,), (named,) = dry("train", *words), dry("train", *words, "--recipe", scheme)
    place = itself.index("--save-dir") + 1  # which has the recipe's name
    assert itself[:place] + itself[place + 1 :] == named[:place] + named[place + 1 :]


def test_a_folder_holds_one_run_on_any_number_of_workers(train, capfd):
    for words in (
        ["--gpus", "4"],
        ["--gpus", "1", "--", "--max-epoch", "7"],
        ["--gpus", "2", "--nodes", "2", "--launcher", "slurm"],
    ):
        train(*words)
    assert capfd.readouterr().out.split() == ["fairseq-train", "started"] * 2 + ["srun", "started"]


def test_a_run_with_other_settings_is_refused_and_they_are_named(train, tmp_path, capfd):
    train("--gpus", "4", "--", "--lr", "2")
    capfd.readouterr()
    with pytest.raises(SystemExit) as error:
        train("--gpus", "4", "--", "--lr=1", "--amp")
    folder = tmp_path / "runs" / "admin-6l-6l-seed1111"
    changed = "(--lr 2, now 1; --amp not given, now given); choose another --save-dir"
    assert f"{folder}: has a run with other settings {changed}" in str(error.value)
    (folder / "settings").write_text("fairseq-train '")
    with pytest.raises(SystemExit, match="settings: is not a command line"):
        train("--gpus", "4")
    assert not capfd.readouterr().out


def test_a_run_of_the_scripts_of_earlier_goes_on(train, tmp_path, capfd):
    """Their file has no word that may change, and the quotes of bash."""
    train("--gpus", "4")
    settings = (tmp_path / "runs" / "admin-6l-6l-seed1111" / "settings").read_text()
    assert settings.startswith("fairseq-train ") and "--max-epoch" not in settings
    assert r"--adam-betas \(0.9\,\ 0.98\) " in settings and settings.endswith(" \n")


def test_the_status_of_a_command_is_handed_on(train, monkeypatch):
    monkeypatch.setenv("STATUS", "7")
    with pytest.raises(SystemExit) as end:
        train("--gpus", "4", "--seeds", "1 2")
    assert end.value.code == 7


def test_an_interrupted_preparation_is_not_trained_on(train, tmp_path):
    (tmp_path / "prepared.json").unlink()  # what prepare writes last; bin is there
    with pytest.raises(SystemExit, match="first run: admin-fairseq prepare wmt14_en_de --data-dir"):
        train("--gpus", "4")
    assert not (tmp_path / "runs").exists()


def test_what_may_change_when_a_run_goes_on_is_no_setting():
    words = ["launch", "fairseq-train", "data", "--max-update=3", "--log-interval", "5"]
    words += ["--lr", "1", "--max-epoch", "9", "--log-dynamics=7", "--clip-norm=0"]
    assert _fixed_arguments(words) == ["fairseq-train", "data", "--lr", "1", "--clip-norm=0"]
