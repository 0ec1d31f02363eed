"""What a first command may get wrong, and what it is told at once."""

import json
import shlex

import pytest
import torch

from .conftest import TRAIN, Runner


def options(checkpoint):
    return torch.load(checkpoint, weights_only=True)["cfg"]["model"]


def without(option, words):
    """``words`` without an option and its value."""
    at = words.index(option)
    return [*words[:at], *words[at + 2 :]]


def only_line(failed):
    (line,) = failed.errors.strip().splitlines()
    assert line.startswith("admin-fairseq: error: ")
    return line


@pytest.mark.skipif(torch.cuda.is_available(), reason="where there is a GPU, --fp16 is right")
def test_fp16_without_a_gpu_is_refused_with_the_command_for_the_cpu(run, data, tmp_path):
    words = [w for w in TRAIN if w != "--cpu"]
    words += ["--arch", "admin_transformer_tiny", "--max-update", "1", "--save-dir", tmp_path / "a"]
    failed = run("fairseq-train", data, *words, "--fp16", status=1)
    line = only_line(failed)
    assert "--fp16 needs a GPU" in line and not (tmp_path / "a").exists()
    command = shlex.split(line.split("on the CPU: ")[1])
    assert "--fp16" not in command and command[-1] == "--cpu"
    assert len(run(*command).losses()) == 1


@pytest.mark.parametrize("resuming", [False, True])
def test_a_learning_rate_must_be_given(resuming, run, data, tmp_path):
    """fairseq's is 0.25, with which no transformer trains."""
    if resuming:
        run.train(data, tmp_path, "--max-update", 1)
    words = [*without("--lr", TRAIN), "--arch", "admin_transformer_tiny"]
    words += ["--save-dir", tmp_path, "--max-update", "2"]
    failed = run("fairseq-train", data, *words, status=1)
    assert "--lr" in only_line(failed) and "0.25" in only_line(failed)


def test_hydra_wants_a_learning_rate_too(run, data, configs, tmp_path):
    failed = run(
        *["fairseq-hydra-train", "--config-dir", configs, "model=admin_transformer_tiny"],
        *["common.user_dir=admin_fairseq", "task=translation", f"task.data={data}"],
        *["criterion=cross_entropy", "optimizer=radam", "common.cpu=true"],
        *["dataset.max_tokens=120", f"checkpoint.save_dir={tmp_path}", "optimization.max_update=1"],
        status=1,
    )
    assert "optimization.lr" in failed.errors.strip().splitlines()[-1]


def test_admin_is_a_word_for_adaptive_auto(run, data, tmp_path):
    log = run.train(data, tmp_path, "--init-type", "admin", "--max-update", 1)
    assert log.count("profiled batch") == 1
    assert options(tmp_path / "checkpoint_last.pt")["init_type"] == "adaptive-auto"
    assert len(run.train(data, tmp_path, "--init-type", "admin", "--max-update", 2).losses()) == 1


def test_the_profile_of_a_run_is_not_overwritten(run, data, tmp_path):
    run.train(data, tmp_path, "--max-update", 1)
    profile = tmp_path / "profile.json"
    content = profile.read_text()
    again = ["--init-type", "adaptive-profiling"]
    run.train(data, tmp_path, *again)  # the same once more
    failed = run.train(data, tmp_path, *again, "--seed", 4, status=1)
    assert str(profile) in only_line(failed) and "--profile-path" in only_line(failed)
    assert json.loads(profile.read_text())["sublayers"] == json.loads(content)["sublayers"]
    elsewhere = tmp_path / "other.json"
    run.train(data, tmp_path, *again, "--seed", 4, "--profile-path", elsewhere)
    assert elsewhere.exists()


@pytest.mark.parametrize("content", ["profile", "text"])
def test_what_profile_path_names_is_not_overwritten(content, run, data, tmp_path):
    """Whoever forgets --init-type adaptive would lose the profile of another run."""
    file = tmp_path / "profile.json"
    if content == "profile":
        run.train(data, tmp_path, "--init-type", "adaptive-profiling")
    else:
        file.write_text("1 2 3\n")
    before = file.read_text()
    words = ["--profile-path", file, "--seed", 4, "--max-update", 1]
    line = only_line(run.train(data, tmp_path / "other", *words, status=1))
    assert str(file) in line and "to use the one that exists: --init-type adaptive" in line
    assert file.read_text() == before


def test_amp_profiles_on_a_cpu_as_it_trains(run, data, tmp_path):
    """In float32: fairseq's autocast is that of a GPU."""
    entries = []
    for words in ([], ["--amp"]):
        folder = tmp_path / "-".join(["run", *words])
        run.train(data, folder, "--init-type", "adaptive-profiling", *words)
        entries.append(json.loads((folder / "profile.json").read_text())["sublayers"])
    assert entries[0] == entries[1]


def test_a_profile_of_no_run_is_replaced(run, data, tmp_path):
    """Whoever tries one option after the other need not clear up."""
    profile = tmp_path / "profile.json"
    for seed in (3, 4):
        run.train(data, tmp_path, "--init-type", "adaptive-profiling", "--seed", seed)
        assert json.loads(profile.read_text())["measurement"]["seed"] == seed


def test_a_log_in_ascii_is_whole(data, tmp_path):
    run = Runner(tmp_path)
    run.environment["PYTHONIOENCODING"] = "ascii"
    log = run.train(data, tmp_path / "run", "--max-update", 1)
    assert r"\u03c9 of 12 sub-layers set" in log
    assert "Logging error" not in log.errors
