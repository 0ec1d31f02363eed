import json
import logging
import math
import os
import re

import pytest
from fairseq.logging import progress_bar
from fairseq.trainer import Trainer
from omegaconf import OmegaConf

from admin_fairseq.errors import AdminError
from admin_fairseq.repairs.run_log import (
    CHUNK,
    Dynamics,
    RunLog,
    Statistics,
    _logging_errors,
    kept_in,
    write,
)
from admin_fairseq.results.logs import read_log

TRAINING = logging.getLogger("fairseq_cli.train")


@pytest.fixture(autouse=True)
def every_message(caplog):
    caplog.set_level("INFO")


def options(no_save=False):
    return OmegaConf.create({"checkpoint": {"no_save": no_save}, "common": {"seed": 7}})


def text(folder):
    return (folder / "train.log").read_text(encoding="utf-8")


def test_the_log_begins_with_the_options_and_ends_with_the_run(tmp_path):
    with kept_in(str(tmp_path)):
        TRAINING.info("before")
        TRAINING.info(options())
        logging.getLogger("fairseq.tasks").info("loaded")
    TRAINING.info("after")
    first, second = text(tmp_path).splitlines()
    assert first.endswith(" | INFO | fairseq_cli.train | " + str(options()))
    assert second.endswith(" | INFO | fairseq.tasks | loaded")
    assert read_log(str(tmp_path / "train.log")).config["common"] == {"seed": 7}


def test_nothing_is_there_of_a_run_that_saves_nothing(tmp_path):
    with kept_in(str(tmp_path)):
        TRAINING.info(options(no_save=True))
    assert os.listdir(tmp_path) == []


def test_a_line_that_a_kill_left_unfinished_takes_no_other_with_it(tmp_path):
    (tmp_path / "train.log").write_text("2026-11-26 21:00:00 | INFO | train_inner | loss=")
    with kept_in(str(tmp_path)):
        TRAINING.info(options())
    assert read_log(str(tmp_path / "train.log")).starts == 1


@pytest.mark.parametrize("size", [CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
@pytest.mark.parametrize("rest", ["", '{"x'])
def test_whole_lines_stay_however_many(size, rest, tmp_path):
    line = '{"x": 1}\n'
    whole = line * (size // len(line)) + " " * (size % len(line) - 1)
    whole += "\n" * (size - len(whole))
    (tmp_path / "train.jsonl").write_text(whole + rest)
    with kept_in(str(tmp_path)):
        TRAINING.info(options())
    assert (tmp_path / "train.jsonl").read_text() == whole


@pytest.mark.parametrize("rest", ["", '{"update": 4, "sub', '{"x": "' + "x" * (3 << 20)])
@pytest.mark.parametrize("before", ["", '{"update": 2}\n', '{"update": 2}\n{"update": 3}\n'])
@pytest.mark.parametrize("name", ["train.jsonl", "dynamics.jsonl"])
def test_half_an_object_is_removed(name, before, rest, tmp_path):
    (tmp_path / name).write_text(before + rest)
    run = OmegaConf.merge(options(), {"model": {"log_dynamics": 2}})
    with kept_in(str(tmp_path)):
        TRAINING.info(run)
        for kind in (Statistics, Dynamics):
            write("dynamics", kind(update=4))
    lines = [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
    assert [line["update"] for line in lines] == [*range(2, 2 + before.count("\n")), 4]


def test_a_full_disk_is_told_once(tmp_path, capsys, caplog):
    with kept_in(str(tmp_path)):
        TRAINING.info(options())
        for handler in logging.getLogger().handlers:
            if isinstance(handler, RunLog) and handler.stream:
                handler.stream.close()
                handler.stream = open("/dev/full", "w")  # noqa: SIM115  the handler closes it
        for _ in range(3):
            TRAINING.info("x" * 10_000)
        logging.getLogger().info("on the screen all the same")
    told = [line for line in caplog.messages if "the log ends here" in line]
    end = "the log ends here: [Errno 28] No space left on device"
    assert told == [f"{tmp_path}/train.log: {end}"]
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["train.log", "train.jsonl"])
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_log_is_told_in_one_line(make, name, tmp_path):
    make(tmp_path / name)
    refused = pytest.raises(AdminError, match=rf"{name}: cannot be written: ")
    with refused, kept_in(str(tmp_path)):
        TRAINING.info(options())


BARS = {
    progress_bar.JsonProgressBar: {"log_interval": 1},
    progress_bar.SimpleProgressBar: {"log_interval": 1},
    progress_bar.TqdmProgressBar: {},
    progress_bar.NoopProgressBar: {},
}


@pytest.mark.parametrize("bar", BARS)
def test_every_bar_leaves_numbers_a_line_each(bar, tmp_path):
    with kept_in(str(tmp_path)):
        TRAINING.info(options())
        shown = bar(range(3), epoch=2, **BARS[bar])
        for update in shown:
            shown.log({"loss": 8.25, "num_updates": update + 1}, tag="train_inner", step=update + 1)
            shown.log({"loss": 8.25})  # of validation, under way
        shown.print({"loss": math.inf, "ups": None}, tag="valid", step=3)
    lines = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    for line in lines:
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", line.pop("time"))
    *inner, last = lines
    assert inner == [
        {"log": "train_inner", "epoch": 2, "loss": 8.25, "num_updates": update}
        for update in (1, 2, 3)
    ]
    assert last == {"log": "valid", "epoch": 2, "loss": "inf", "ups": "None"}
    assert len(re.findall(r"\| train_inner \|.*loss", text(tmp_path))) == 3


@pytest.mark.parametrize("bar", [progress_bar.TqdmProgressBar, progress_bar.NoopProgressBar])
def test_bars_that_log_no_losses(bar, tmp_path, caplog):
    with kept_in(str(tmp_path)):
        TRAINING.info(options())
        shown = bar([0], epoch=1)
        for update in (1, 2):
            shown.log({"loss": 9 - update, "num_updates": update}, tag="train_inner", step=update)
        shown.print({"loss": 6.5, "num_updates": 2}, tag="valid", step=2)
    found = read_log(str(tmp_path / "train.log"))
    assert [(point.update, point.loss) for point in found.training] == [(1, 8), (2, 7)]
    assert [(point.update, point.loss) for point in found.validation] == [(2, 6.5)]
    assert "num_updates=1" not in caplog.text  # the screen is as it was


def test_what_ended_the_training_is_in_the_log(tmp_path):
    def fail():
        raise FloatingPointError("Minimum loss scale reached (0.0001).")

    assert hasattr(Trainer.train_step, "__wrapped__")
    with kept_in(str(tmp_path)), pytest.raises(FloatingPointError):
        TRAINING.info(options())
        _logging_errors(fail)()
    assert read_log(str(tmp_path / "train.log")).overflowed
