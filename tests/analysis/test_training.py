"""analyze training, on runs written by hand."""

import csv
import json
import math
from pathlib import Path

import pytest
import torch

from admin_fairseq import cli
from admin_fairseq.analysis.amplification import branch_matrices
from admin_fairseq.analysis.bench import Subject
from admin_fairseq.analysis.studies import training
from admin_fairseq.analysis.studies.training import Runs
from admin_fairseq.studies.options import Depth

from .test_epochs import save

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


def watched_run(path):
    """A run of four updates, two of them measured, and a validation."""
    folder = Path(path)
    folder.mkdir()
    lines = [{"update": u, "sublayers": list(sublayers(u))} for u in (2, 4)]
    lines.append({"update": 4, "dependency": {"encoder": {"own": 0.3, "beta": [[1.0]]}}})
    (folder / "dynamics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    text = LOG.format(2, 9.0) + LOG.format(4, "nan") + VALID.format(4, 8.5)
    (folder / "train.log").write_text(text)
    return folder


@pytest.fixture
def run(tmp_path):
    return watched_run(tmp_path / "a run")


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
    assert [panel.extent for panel in maps[::3]] == [(1, 5, 2.5, 0.5), (1, 5, 1.5, 0.5)]
    gradient = "log₁₀ of the gradi"
    assert named["a run, encoder", gradient] == [
        [pytest.approx(-2), pytest.approx(-4)],
        [pytest.approx(-1), pytest.approx(-3)],
    ]
    scales = named["a run, encoder", "log₁₀ of the mean "]
    assert [row[0] for row in scales] == [pytest.approx(math.log10(2)), pytest.approx(1)]
    assert math.isnan(named["a run, decoder: none", "log₁₀ of the mean "][0][0])


def test_columns_of_a_heat_map_are_centred_on_their_updates():
    assert training._edges([100, 200, 300]) == [50, 150, 250, 350]
    assert training._edges([2, 4, 60]) == [1, 3, 32, 88]
    assert training._edges([7]) == [6.5, 7.5]


def test_an_earlier_run_in_the_folder_had_other_layers(run):
    earlier = {"update": 1, "sublayers": list(sublayers(1))[1:]}
    text = (run / "dynamics.jsonl").read_text()
    (run / "dynamics.jsonl").write_text(json.dumps(earlier) + "\n" + text)
    (found,) = training._measure(Runs(runs=(str(run),))).runs
    assert [len(update) for update in training._by_update(found, "encoder")] == [2, 2]


def test_the_command_writes_all_and_tells_the_ends_of_each_stack(run, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    cli.main(["analyze", "training", str(run), "-o", str(tmp_path / "out")])
    told = capsys.readouterr().out.splitlines()
    lowest = "update 4: the lowest sub-layer's gradient is"
    assert f"a run, encoder, {lowest} 0.1 times the highest's, ω or α from 2 to -10" in told
    assert f"a run, decoder, {lowest} 1 times the highest's" in told  # which has neither
    names = ["training.csv", "training.json"]
    names += [f"{n}.{e}" for n in ("training", "training_layers") for e in ("png", "svg")]
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(names)
    with open(tmp_path / "out" / "training.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 and {row["run"] for row in rows} == {"a run"}


def test_a_run_without_dynamics_is_told_in_one_line(run, tmp_path):
    (run / "dynamics.jsonl").write_text("")
    (tmp_path / "other").mkdir()
    for folder, reason in (
        (run, "has no update yet"),
        (tmp_path / "other", "no dynamics.jsonl; train with --log-dynamics N"),
        (tmp_path / "x", "x: no such folder"),
    ):
        with pytest.raises(SystemExit) as error:
            cli.main(["analyze", "training", str(folder), "-o", str(tmp_path / "out")])
        assert reason in str(error.value) and "\n" not in str(error.value)


def test_epoch_checkpoints_give_a_histogram_for_each_epoch(run, data, bench, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    specimen = bench.put(Subject(("admin_transformer_tiny",)), Depth(1, 1))
    words = ["analyze", "training", str(run), "--data", data, "--cpu", "-o"]
    cli.main([*words, str(tmp_path / "none")])
    assert "a run: no histograms, which need two epoch checkpoints" in capsys.readouterr().err
    for epoch in (1, 2, 3):
        save(specimen, run / f"checkpoint{epoch}.pt")
        with torch.no_grad():
            for weight in branch_matrices(specimen.model).values():
                weight.mul_(1.5)
    cli.main([*words, str(tmp_path / "out")])
    assert "no histograms" not in capsys.readouterr().err
    result = json.loads((tmp_path / "out" / "training.json").read_text())
    epochs = result["runs"][0]["epochs"]
    assert [epoch["number"] for epoch in epochs] == [1, 2]
    rows = list(csv.DictReader((tmp_path / "out" / "training.csv").open(newline="")))[6:]
    assert len(rows) == 2 * 16 and rows[0]["matrix"] == "encoder.layers.0.self_attn.k_proj.weight"
    assert float(rows[16]["change"]) == pytest.approx(1.5 * float(rows[0]["change"]), rel=1e-4)
    svg = (tmp_path / "out" / "training_epochs.svg").read_text()
    assert "epoch 2" in svg and "a run, gradient" in svg and "a run, update" in svg


def test_ratios_that_no_number_holds_are_unknown(run, tmp_path):
    path = run / "dynamics.jsonl"
    path.write_text(
        path.read_text().replace('"update": 0.4', '"update": 1e308').replace("4.0", "1e-308")
    )
    (found,) = training._measure(Runs(runs=(str(run),))).runs
    assert {one.relative_update for one in found.measured} == {None}


def test_wrong_folders_are_told_before_anything_is_measured(run, data, tmp_path):
    words = ["--cpu", "-o", str(tmp_path / "out")]
    with pytest.raises(SystemExit, match="nodata: no such folder"):
        cli.main(["analyze", "training", str(run), "--data", "nodata", *words])
    with pytest.raises(SystemExit, match="nope: no such folder"):
        cli.main(["analyze", "report", "--data", data, "--runs", "nope", *words])
