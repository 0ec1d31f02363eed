import math
import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admin_fairseq.errors import AdminError
from admin_fairseq.results import logs
from admin_fairseq.results.logs import configuration, parse, read_log

from .conftest import DONE, config_line, train_line, valid_line

# as fairseq 0.12.2 and fairseq-fixed 0.12.3.1 print them, with --log-format and under hydra
STATEMENTS = {
    "simple": """\
2026-11-23 00:36:04 | INFO | train_inner | epoch 001:      2 / 60 loss=7.572, nll_loss=7.557, \
ppl=188.34, wps=751.9, ups=11.73, wpb=72, num_updates=2, lr=0.0001, train_wall=0, wall=4
2026-11-23 00:36:05 | INFO | valid | epoch 001 | valid on 'valid' subset | loss 7.792 | \
nll_loss 7.77 | ppl 218.25 | wps 5635.9 | wpb 74.5 | bsz 8 | num_updates 6 | best_loss 7.792
2026-11-23 00:36:05 | INFO | fairseq_cli.train | end of epoch 1 (average epoch stats below)
""",
    "json": """\
2026-11-23 00:36:24 | INFO | train_inner | {"epoch": 1, "update": 0.033, "loss": "7.572", \
"nll_loss": "7.557", "ppl": "188.34", "num_updates": "2", "train_wall": "0", "wall": "4"}
2026-11-23 00:36:24 | INFO | valid | {"epoch": 1, "valid_loss": "7.792", \
"valid_nll_loss": "7.77", "valid_ppl": "218.25", "valid_num_updates": "6"}
2026-11-23 00:36:24 | INFO | fairseq_cli.train | end of epoch 1 (average epoch stats below)
""",
    "simple, hydra": """\
[2026-11-23 00:37:26,066][train_inner][INFO] - epoch 001:      2 / 60 loss=7.381, \
nll_loss=7.557, ppl=166.7, wps=0, ups=0, wpb=82, bsz=8, num_updates=2, train_wall=0, wall=4
[2026-11-23 00:37:26,235][valid][INFO] - epoch 001 | valid on 'valid' subset | loss 7.331 | \
nll_loss 7.77 | ppl 161.05 | num_updates 6
[2026-11-23 00:37:26,235][fairseq_cli.train][INFO] - end of epoch 1 (average epoch stats below)
""",
    "json, hydra": """\
[2026-11-23 00:42:28,422][train_inner][INFO] - {"epoch": 1, "update": 0.017, "loss": "7.381", \
"nll_loss": "7.557", "ppl": "166.7", "num_updates": "2", "train_wall": "0", "wall": "4"}
[2026-11-23 00:42:28,491][valid][INFO] - {"epoch": 1, "valid_loss": "7.331", \
"valid_nll_loss": "7.77", "valid_num_updates": "6"}
[2026-11-23 00:42:28,491][fairseq_cli.train][INFO] - end of epoch 1 (average epoch stats below)
""",
    "language model": """\
2026-11-22 22:39:36 | INFO | train_inner | epoch 001:     50 / 461 loss=7.557, ppl=8178.55, \
wps=2607.6, num_updates=2, lr=0.000125087, gnorm=2.869, train_wall=18, wall=4
2026-11-22 22:43:34 | INFO | valid | epoch 002 | valid on 'valid' subset | loss 7.77 | ppl 61.81 \
| wps 8166.9 | wpb 955.4 | bsz 8 | num_updates 6 | best_loss 5.95
2026-11-22 22:43:34 | INFO | fairseq_cli.train | end of epoch 1 (average epoch stats below)
""",
}


def lines(text):
    return text.splitlines(keepends=True)


@pytest.mark.parametrize("form", STATEMENTS)
def test_every_form_is_read(form):
    log = parse(lines(STATEMENTS[form]))
    assert [point[:3] for point in log.training] == [(2, 7.557, 4.0)]
    assert [point[:2] for point in log.validation] == [(6, 7.77)]
    assert (log.updates, log.epochs, log.done) == (6, 1, False)


def test_configuration_is_parsed_not_evaluated():
    found = configuration(
        "{'_name': None, 'model': Namespace(arch='transformer_tiny', dropout=0.1, x={'a': [1]}), "
        "'task': {'mode': none, 'init_type': adaptive-auto, 'scale': O(logn), 'min': -inf}, "
        "'bpe': None, 'evil': {'x': __import__('os').abort()}}"
    )
    assert found == {
        "model": {"arch": "transformer_tiny", "dropout": 0.1, "x": {"a": [1]}},
        "task": {"mode": "none", "init_type": "adaptive-auto", "scale": "O(logn)", "min": "-inf"},
        "evil": {"x": "__import__('os').abort()"},
    }
    assert configuration("{'half': ") == {}


def test_first_validation_set_counts():
    config = config_line().replace("'valid'", "'valid1,valid'")
    other = valid_line(50, 3.0).replace("| valid |", "| valid1 |")
    assert [p.loss for p in parse([config, other, valid_line(50, 9.0)]).validation] == [3.0]


def test_line_that_is_being_written_does_not_count():
    log = parse([train_line(50, 9.0), train_line(100, 8.0).split("lr=")[0]])
    assert [point.update for point in log.training] == [50]


def test_epochs_stand_in_for_log_intervals_that_never_came():
    means = [train_line(n, loss).replace("train_inner", "train") for n, loss in ((5, 9), (10, 8))]
    assert [point[:2] for point in parse(means).training] == [(5, 9), (10, 8)]
    assert [point[:2] for point in parse([*means, train_line(12, 7)]).training] == [(12, 7)]


def test_not_finite_losses_are_read():
    losses = [point.loss for point in parse(map(train_line, (1, 2), (math.inf, math.nan))).training]
    assert losses[0] == math.inf and math.isnan(losses[1])


def test_later_start_counts():
    first = [config_line(lr=1), *(train_line(n, 9.0) for n in (50, 100, 150)), valid_line(150, 8.0)]
    second = [config_line(lr=2), train_line(100, 7.0)]
    log = parse([*first, DONE, *second])
    assert [(p.update, p.loss) for p in log.training] == [(50, 9.0), (100, 7.0)]
    assert log.validation == []
    assert log.config["optimization"]["lr"] == [2]
    assert not log.done and not log.complete


@given(st.integers(0, 9), st.integers(1, 3))
def test_repeated_resume_changes_nothing(first, times):
    run = [line for n in range(1, 11) for line in (train_line(n, 20 - n), valid_line(n, 30 - n))]
    logs = parse(run), parse([*run, *run[2 * first :] * times])
    for whole, again in zip(*((log.training, log.validation) for log in logs)):
        assert [point[:2] for point in again] == [point[:2] for point in whole]


def test_seconds_of_updates_that_take_less_than_one():
    """fairseq's wall is in whole seconds."""
    fast = [train_line(n, 9.0, round(n * 0.03)) for n in range(1, 1001)]
    assert parse(fast).seconds_per_update == pytest.approx(0.03, rel=0.05)
    assert parse(fast[:100]).seconds_per_update is None


def test_seconds_do_not_span_starts():
    first, second = [train_line(50, 9.0, 100), train_line(100, 9.0, 200)], train_line(150, 9.0, 9e5)
    assert parse([config_line(), *first, config_line(), second]).seconds_per_update == 2
    assert parse(first[:1]).seconds_per_update is None


@pytest.mark.parametrize(
    ("limit", "complete"), [("'max_update': 50", True), ("'max_update': 51", False)]
)
def test_complete_by_its_limits(limit, complete):
    config = config_line().replace("'max_update': 150", limit)
    assert parse([config, train_line(50, 9.0)]).complete is complete


def test_a_start_that_was_refused_changes_nothing():
    """Such as one with the layers of another model, or one that only measures a profile."""
    trained = [config_line(seed=1), train_line(100, 5.0), DONE]
    once, again = parse(trained), parse([*trained, config_line(seed=2)])
    assert (again.config, again.done, again.starts) == (once.config, True, 2)
    resumed = parse([*trained, config_line(seed=2), train_line(200, 4.0)])
    assert resumed.config["common"]["seed"] == 2 and not resumed.done


def test_loss_scale_of_the_last_start(tmp_path):
    stopped = [
        config_line(),
        "FloatingPointError: Minimum loss scale reached (0.0001). Your loss is probably ...\n",
    ]
    assert parse(stopped).overflowed
    assert not parse([*stopped, config_line()]).overflowed
    with pytest.raises(AdminError, match="cannot be read"):
        read_log(str(tmp_path))


INNER = "2026-11-23 00:36:04 | INFO | train_inner | "
CONFIG = "2026-11-23 00:36:00 | INFO | fairseq_cli.train | {'model': {"
ODD = [
    *("loss=1, num_updates=" + digits for digits in ("9" * 30, "9" * 400, "-5", "1.5", "x")),
    *("loss=1e308, num_updates=999", "num_updates=999", "loss=x, num_updates=999"),
    *('{"loss": ' + "[" * 100_000, '{"num_updates": [1], "loss": {"a": 1}}', '{"num_updates": 1'),
]


@pytest.mark.parametrize("statement", ODD)
def test_what_fairseq_does_not_log_does_not_count(statement):
    lines = [train_line(50, 9.0), f"{INNER}{statement}\n", train_line(100, 8.0)]
    assert [(point.update, point.loss) for point in parse(lines).training] == [(50, 9), (100, 8)]


def test_epochs_beyond_counting_do_not_count():
    text = "2026-11-23 00:36:05 | INFO | fairseq_cli.train | end of epoch "
    assert parse([f"{text}3 (average\n", f"{text}{'9' * 5000} (average\n"]).epochs == 3


@pytest.mark.parametrize("walls", [(1, math.inf), (-math.inf, 2), (math.nan, 2), (2, 1)])
def test_seconds_are_finite(walls):
    lines = [train_line(50 * n, 9.0, wall) for n, wall in enumerate(walls)]
    assert parse(lines).seconds_per_update is None


@pytest.mark.parametrize(
    "text",
    [
        *("{[1]: 2}", "{1, 2}", "{} + 1", "{'model': {[1]}}", "{'a': 'b\0'}"),
        *("{'a':" + deep for deep in ("[" * 50_000 + "]" * 50_000 + "}", "-" * 100_000 + "1}")),
        *("{'a':" * 3000 + "1" + "}" * 3000, "{'a': x" + ".a" * 100_000 + "}"),
    ],
)
def test_what_is_no_configuration_has_no_options(text):
    assert not any(configuration(text).values())


def test_long_texts_of_a_configuration_are_shortened():
    long = "x" * 9999
    found = configuration(f"{{'a': {{'b': '{long}', 'c': {long}}}}}")["a"]
    assert all(len(value) < 2100 for value in found.values())


@pytest.mark.parametrize("size", [logs.LONGEST_LINE - 999, 10_000_000])
@pytest.mark.parametrize(
    ("start", "part", "end"),
    [(INNER, "x", ""), (INNER, "loss=1, ", ""), ("", "][", ""), (CONFIG, "'a': b, ", "}}")],
)
def test_long_lines_take_no_time(tmp_path, size, start, part, end):
    path = tmp_path / "train.log"
    line = start + part * (size // len(part)) + end
    path.write_text(f"{train_line(50, 9.0)}{line}\n{train_line(100, 8.0)}")
    begin = time.process_time()
    assert [point.update for point in read_log(str(path)).training] == [50, 100]
    assert time.process_time() - begin < 5


def test_what_is_no_log_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "train.log"
    os.mkfifo(path)
    with pytest.raises(AdminError, match="not a regular file"):
        read_log(str(path))
    path.unlink()
    path.write_text(train_line(50, 9.0) * 10_000)
    monkeypatch.setattr(logs, "LARGEST", 1 << 20)
    with pytest.raises(AdminError, match="larger than 1 MiB; is it a log"):
        read_log(str(path))
