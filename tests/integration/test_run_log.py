"""Runs log themselves, so that results can read them."""

import json
import os
import pty
import re
import threading

import pytest

from admin_fairseq.results.runs import read_run

from .conftest import TRAIN, WARMUP
from .shims import BIN, warm

SHORT = ["--max-update", "4", "--log-interval", "1"]


def statistics(folder):
    lines = (folder / "train.log").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if "| train_inner |" in line]


def statistics_of(folder):
    return [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]


def test_a_run_and_its_resumption_are_one_log(run, data, tmp_path):
    """Also what translating later says is none of its business."""
    output = run.train(data, tmp_path, *SHORT, validate=True)
    first = (tmp_path / "train.log").read_text(encoding="utf-8")
    printed = [line for line in output.splitlines() if " | INFO | " in line]
    assert set(printed[printed.index(next(x for x in printed if "ω of" in x)) :]) <= set(
        first.splitlines()
    )
    run.train(data, tmp_path, "--max-update", "6", "--log-interval", "1", validate=True)
    text = (tmp_path / "train.log").read_text(encoding="utf-8")
    assert text.startswith(first) and len(statistics(tmp_path)) == 6
    found = read_run(str(tmp_path))
    assert (found.scheme, found.depth) == ("admin", "3L-2L") and found.verdict != "failed"
    assert found.log.starts == 2 and found.log.complete and found.best.update == 6
    lines = statistics_of(tmp_path)
    inner = [line for line in lines if line["log"] == "train_inner"]
    assert [line["num_updates"] for line in inner] == [1, 2, 3, 4, 5, 6]
    assert [line["nll_loss"] for line in inner] == [point.loss for point in found.log.training]
    assert {line["log"] for line in lines} == {"train_inner", "train", "valid"}
    run.generate(data, tmp_path / "checkpoint_best.pt", "--user-dir", "admin_fairseq")
    assert (tmp_path / "train.log").read_text(encoding="utf-8") == text


def test_losses_are_logged_where_a_terminal_shows_a_bar(run, data, tmp_path):
    words = [*TRAIN[:-4], *WARMUP, *SHORT, "--arch", "admin_transformer_tiny"]
    command = [BIN / "fairseq-train", data, *words, "--save-dir", tmp_path]
    ours, theirs = pty.openpty()
    threading.Thread(target=_read_on, args=(ours,), daemon=True).start()
    with open(os.devnull, "r+") as null:
        streams = [null.fileno(), null.fileno(), theirs]
        status = warm(run.folder, run.environment, command, streams)
    os.close(theirs)
    assert status == 0
    found = read_run(str(tmp_path))
    assert [point.update for point in found.log.training] == [1, 2, 3, 4]
    assert found.log.complete and len(found.log.validation) == 1
    assert [line["num_updates"] for line in statistics_of(tmp_path)][:4] == [1, 2, 3, 4]


def _read_on(terminal):
    """A terminal that nobody reads has the process wait once it is full."""
    try:
        while os.read(terminal, 4096):
            pass
    except OSError:  # its other end was closed
        os.close(terminal)


def test_no_format_no_screen_but_a_log(run, data, tmp_path):
    output = run.train(data, tmp_path, *SHORT, "--log-format", "none", validate=True)
    assert "train_inner" not in output
    assert len(statistics(tmp_path)) == 4 and len(statistics_of(tmp_path)) == 6
    assert read_run(str(tmp_path)).best.update == 4


def test_nothing_is_written_without_saving(run, data, tmp_path):
    run.train(data, tmp_path / "none", *SHORT, "--no-save")
    assert not list((tmp_path / "none").glob("train.*"))


def test_profiling_alone_is_no_failed_run(run, data, tmp_path):
    run.train(data, tmp_path, *SHORT, "--init-type", "adaptive-profiling")
    assert read_run(str(tmp_path)).verdict == "profile only"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_diverges_ends_in_one_line_and_results_say_so(workers, run, data, tmp_path):
    words = ["--optimizer", "adam", "--lr", "1e30", "--distributed-world-size", workers]
    ended = run.train(data, tmp_path, *SHORT, *words, status=1)
    assert "Traceback" not in ended.errors
    assert ended.errors.strip().splitlines()[-1] == (
        "admin-fairseq: error: update 3: gradients are Nan/Inf: training has diverged; try a lower "
        "--lr, a longer warm-up or --clip-norm"
    )
    assert re.search(r"NaN detected in output of \S*layers\.0\S*, .* forward", ended + ended.errors)
    assert read_run(str(tmp_path)).verdict == "diverged"
