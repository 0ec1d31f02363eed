"""Two gloo workers on one CPU."""

import json
import socket

import pytest

from .conftest import TRAIN, WARMUP, Output


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def train_on_two(run, data, save_dir, *words):
    method = f"tcp://127.0.0.1:{free_port()}"
    distributed = [
        *("--distributed-world-size", "2", "--distributed-init-method", method),
        *("--distributed-no-spawn", "--distributed-backend", "gloo"),
        *("--ddp-backend", "legacy_ddp", "--fast-stat-sync"),
    ]
    command = ["fairseq-train", data, *TRAIN, *WARMUP, "--disable-validation", *distributed]
    workers = [
        run.start(
            *(*command, "--arch", "admin_transformer_tiny", "--save-dir", save_dir, *words),
            *("--distributed-rank", rank),
        )
        for rank in (0, 1)
    ]
    outputs = [worker.communicate(timeout=300) for worker in workers]
    for worker, (output, errors) in zip(workers, outputs):
        assert worker.returncode == 0, output[-2000:] + errors[-2000:]
    return [Output(*output) for output in outputs]


def omegas(folder):
    profile = json.loads((folder / "profile.json").read_text())
    return [entry["omega"] for entry in profile["sublayers"]]


def test_omega_of_two_workers_is_that_of_one_on_the_union(run, data, tmp_path):
    two, one = tmp_path / "two", tmp_path / "one"
    outputs = train_on_two(run, data, two, "--init-type", "adaptive-profiling")
    assert "profile written to" in outputs[0].strip().splitlines()[-1]
    assert "profile written to" not in outputs[1]
    run.train(data, one, "--init-type", "adaptive-profiling", "--profile-batches", 2)
    assert omegas(two) == pytest.approx(omegas(one), rel=1e-5)
    run.train(data, one, "--init-type", "adaptive-profiling")
    assert omegas(two) != pytest.approx(omegas(one), rel=1e-5), "one batch must not be the union"


def test_two_workers_train_with_the_same_omega(run, data, tmp_path):
    """Losses are those of both workers, so equal ones mean the file's ω on both."""
    automatic, _ = train_on_two(run, data, tmp_path / "auto", "--max-update", 3)
    profile = ["--init-type", "adaptive", "--profile-path", tmp_path / "auto" / "profile.json"]
    from_file, _ = train_on_two(run, data, tmp_path / "file", *profile, "--max-update", 3)
    assert len(automatic.losses()) == 3
    assert automatic.losses() == from_file.losses()
