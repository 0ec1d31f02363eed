import importlib.util
import math
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parents[2] / "scripts" / "multi30k" / "scheme_table.py"


@pytest.fixture(scope="module")
def table():
    spec = importlib.util.spec_from_file_location("scheme_table", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def log(losses, valid=(), seconds=0.5):
    """What fairseq writes with --log-format simple, in short."""
    lines = [
        f"2026 | INFO | train_inner | epoch 001:  {50 * i} / 514 loss={loss + 1}, "
        f"nll_loss={loss}, ppl=9, wps=990.8, ups=0, wpb=844.8, num_updates={50 * i}, lr=0.1, "
        f"train_wall=44, gb_free=1, wall={round(50 * i * seconds) + 7}"
        for i, loss in enumerate(losses, start=1)
    ]
    lines += [
        f"2026 | INFO | valid | epoch 002 | valid on 'valid' subset | loss {x + 1} | nll_loss {x} "
        "| ppl 215.77 | num_updates 600"
        for x in valid
    ]
    return "\n".join(lines)


def test_unigram_entropy_counts_sentence_ends(table):
    # a, b, </s>, </s>
    assert table.unigram_bits(["a b\n", "\n"]) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("losses", "verdict"),
    [
        ([12.6, 9.0, 5.2], ""),
        ([12.6, 8.0, 7.66], "stuck"),
        ([12.6, 8.0, 12.7], "diverged"),
        ([12.6, 8.0, "nan"], "diverged"),
        ([12.6, 8.0, "inf"], "diverged"),
    ],
)
def test_verdict(table, losses, verdict):
    losses = [float(loss) for loss in losses]
    training, validation, found, seconds = table.row(log(losses, [5.5, 5.25]), unigram=8.35)
    assert found == verdict
    assert validation == 5.25 and seconds == 0.5
    assert training == losses[-1] or math.isnan(losses[-1])


def test_seconds_of_runs_that_were_interrupted(table):
    resumed = log([12.6, 9.0, 8.0], seconds=2) + "\n" + log([7.0, 6.0], seconds=1)
    assert table.row(resumed, unigram=8.35)[3] == 2
    assert math.isnan(table.row(log([12.6]), unigram=8.35)[3])


def test_run_without_an_update_failed(table):
    assert table.row("nothing", unigram=8.35)[2] == "failed"


def test_table_is_sorted_by_loss(table, tmp_path, capsys):
    (tmp_path / "target").write_text("a b c d\n" * 9)
    for name, losses in {"worse": [9.0, 1.2], "best": [9.0, 1.0], "broken": []}.items():
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "train.log").write_text(log(losses, [1.5]))
    table.main(str(tmp_path / "target"), str(tmp_path / "runs"))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("`")[1] for line in lines[2:5]] == ["best", "worse", "broken"]
    assert lines[2] == "| `best` | 1.00 | 1.50 |  | 0.50 |"
    assert "2.32" in lines[-1]  # five pieces alike: log2 5
