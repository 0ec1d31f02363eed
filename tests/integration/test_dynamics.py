"""--log-dynamics by the real command: one line an update, also across a resumption."""

import json

import pytest

from .test_resuming import SAVING
from .test_workers import train_on_two

DYNAMICS = ["--log-dynamics", 2]


def lines(folder):
    """(update, kind) → line without its time; of a line that was written twice, the last."""
    found = {}
    for text in (folder / "dynamics.jsonl").read_text().splitlines():
        line = json.loads(text)
        del line["time"]
        found[line["update"], "dependency" in line] = line
    return found


def test_a_resumed_run_logs_what_an_uninterrupted_one_does(run, data, tmp_path):
    straight, parts = tmp_path / "straight", tmp_path / "parts"
    whole = run.train(data, straight, *SAVING, *DYNAMICS, validate=True)
    run.train(data, parts, *SAVING, *DYNAMICS, "--max-update", 13, validate=True)
    resumed = run.train(data, parts, *SAVING, *DYNAMICS, validate=True)
    assert 0 < len(resumed.losses()) < len(whole.losses())
    expected, found = lines(straight), lines(parts)
    assert found.pop((13, True))["update"] == 13  # the first part validated where it stopped
    assert found == expected
    updates = [update for update, dependency in expected if not dependency]
    assert updates == list(range(2, len(whole.losses()) + 1, 2))
    assert any(dependency for _, dependency in expected)
    assert "dependency" not in whole and "input_variance" not in whole  # not on the console


def test_two_workers_write_one_file_of_both_their_batches(run, data, tmp_path):
    folder = tmp_path / "two"
    train_on_two(run, data, folder, *DYNAMICS, "--max-update", 2)
    alone = tmp_path / "alone"
    run.train(data, alone, *DYNAMICS, "--max-update", 2)
    (found,), (single,) = (list(lines(f).values()) for f in (folder, alone))
    assert found["update"] == single["update"] == 2
    assert len(found["sublayers"]) == len(single["sublayers"]) == 12
    assert found != single


def test_without_the_option_nothing_is_written(run, data, tmp_path):
    run.train(data, tmp_path, "--max-update", 2)
    assert (tmp_path / "train.jsonl").exists() and not (tmp_path / "dynamics.jsonl").exists()


def test_tensorboard_gets_the_same_numbers(run, data, tmp_path):
    """In a run of their own; its losses are where fairseq puts them."""
    from tensorboard.backend.event_processing import event_accumulator

    board = tmp_path / "board"
    words = ["--max-update", 2, "--tensorboard-logdir", board, "--log-interval", 1]
    done = run.train(data, tmp_path, *DYNAMICS, *words, validate=True)
    assert "gradient/" not in done and "dynamics" not in (tmp_path / "train.jsonl").read_text()
    events = event_accumulator.EventAccumulator(str(board / "dynamics")).Reload()
    found = lines(tmp_path)
    for measured in found[2, False]["sublayers"]:
        place = f"{measured['stack']}.{measured['layer']}.{measured['sublayer']}"
        for name in ("gradient", "update", "weights", "input_variance", "branch_variance"):
            (event,) = events.Scalars(f"{name}/{place}")
            assert (event.step, event.value) == (2, pytest.approx(measured[name], rel=1e-6))
        (event,) = events.Scalars(f"scale_max/{place}")
        assert event.value == pytest.approx(measured["scale"]["max"], rel=1e-6)
    (event,) = events.Scalars("own/decoder")
    assert event.value == pytest.approx(found[2, True]["dependency"]["decoder"]["own"], rel=1e-6)
    assert (board / "train_inner").is_dir()
