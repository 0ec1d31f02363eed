"""analyze training, on runs written by hand."""

import csv
import json
import math

import pytest

from admin_fairseq import cli
from admin_fairseq.analysis.studies import training
from admin_fairseq.analysis.studies.training import Runs

LOG = "2026-11-23 00:36:24 | INFO | train_inner | epoch 001: loss={1}, nll_loss={1}, "
LOG += "num_updates={0}, wall=3\n"
VALID = "2026-11-23 00:36:25 | INFO | valid | epoch 001 | valid on 'valid' subset | loss {1} | "
VALID += "nll_loss {1} | num_updates {0}\n"


def sublayers(update):
    """Two of the encoder with ω, one of the decoder without; the gradient falls with updates."""
    for i, (stack, scale) in enumerate((("encoder", 2.0), ("encoder", -10.0), ("decoder", None))):
        yield {
            **{"stack": stack, "layer": i % 2, "sublayer": "ffn"},
            "scale": scale and {"min": scale, "mean": scale, "max": scale},
            **{"input_variance": 1.0, "branch_variance": 0.5 + i},
            **{"weights": 4.0, "gradient": 10.0 ** (i - update), "update": 0.4},
        }


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "a run"
    folder.mkdir()
    lines = [{"update": u, "sublayers": list(sublayers(u))} for u in (2, 4)]
    lines.append({"update": 4, "dependency": {"encoder": {"own": 0.3, "beta": [[1.0]]}}})
    (folder / "dynamics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    text = LOG.format(2, 9.0) + LOG.format(4, "nan") + VALID.format(4, 8.5)
    (folder / "train.log").write_text(text)
    return folder


def test_a_run_is_read_with_its_losses(run):
    (found,) = training._measure(Runs(runs=(str(run),))).runs
    assert found.name == "a run"
    assert found.training == [(2, 9.0)] and found.validation == [(4, 8.5)]
    assert [(share.update, share.stack, share.own) for share in found.shares] == [
        (4, "encoder", 0.3)
    ]
    assert [(one.update, one.stack, one.scale, one.relative_update) for one in found.measured] == [
        (update, stack, scale, pytest.approx(0.1))
        for update in (2, 4)
        for stack, scale in (("encoder", 2.0), ("encoder", -10.0), ("decoder", None))
    ]


def test_heat_maps_have_a_row_for_each_sublayer_and_a_column_for_each_update(run):
    maps = training._draw(training._measure(Runs(runs=(str(run),))))["training_layers"].panels
    named = {(panel.title, panel.scale_label[:18]): panel.values for panel in maps}
    assert len(named) == len(maps) == 6
    gradient = "log₁₀ of the gradi"
    assert named["a run, encoder", gradient] == [
        [pytest.approx(-2), pytest.approx(-4)],
        [pytest.approx(-1), pytest.approx(-3)],
    ]
    scales = named["a run, encoder", "log₁₀ of the mean "]
    assert [row[0] for row in scales] == [pytest.approx(math.log10(2)), pytest.approx(1)]
    assert math.isnan(named["a run, decoder", "log₁₀ of the mean "][0][0])


def test_the_command_writes_all_and_tells_the_ends_of_each_stack(run, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    cli.main(["analyze", "training", str(run), "-o", str(tmp_path / "out")])
    told = capsys.readouterr().out
    assert "a run, encoder, update 4: gradient of the lowest sub-layer 0.1 of the highest's" in told
    assert "ω or α from 2 to -10" in told and "from ? to ?" in told
    names = ["training.csv", "training.json"]
    names += [f"{n}.{e}" for n in ("training", "training_layers") for e in ("png", "svg")]
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(names)
    with open(tmp_path / "out" / "training.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 and {row["run"] for row in rows} == {"a run"}


def test_a_run_without_dynamics_is_told_in_one_line(run, tmp_path):
    (run / "dynamics.jsonl").write_text("")
    for folder, reason in ((run, "has no update yet"), (tmp_path / "x", "cannot be read")):
        with pytest.raises(SystemExit) as error:
            cli.main(["analyze", "training", str(folder), "-o", str(tmp_path / "out")])
        assert reason in str(error.value) and "\n" not in str(error.value)
