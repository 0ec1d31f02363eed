"""The studies as a user calls them, in this process."""

import csv
import json
import os
import re
import shlex
import sys
from html import escape
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")

from admin_fairseq import cli
from admin_fairseq.analysis.bench import Bench, Subject
from admin_fairseq.analysis.options import Conditions
from admin_fairseq.profiling.profile import Entry, Profile
from admin_fairseq.studies.options import Depth

from .test_training import watched_run

TINY = ["--max-tokens", "60", "--cpu"]
THREE = ("Post-LN", "Pre-LN", "Admin")
ONE = ["--arch", "admin_transformer_tiny"]  # in place of the three: a third of the time


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Nothing may be written but where -o says."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def analyze(data, capsys):
    """Runs a study on tiny data; the result is its JSON and what was printed."""

    def analyze(what, *words, out="out"):
        cli.main(["analyze", what, "--data", data, *TINY, "-o", out, *words])
        return read(out, what), capsys.readouterr().out

    return analyze


def read(folder, name):
    with open(f"{folder}/{name}.json") as file:
        return json.load(file)


def rows(folder, name):
    with open(f"{folder}/{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_dependency(analyze, tmp_path):
    result, printed = analyze("dependency", "--depths", "3-2")
    assert [model["label"] for model in result["models"]] == list(THREE)
    for model in result["models"]:
        assert model["layers"] == {"encoder": 3, "decoder": 2}
        for stack, sublayers in (("encoder", 6), ("decoder", 6)):
            found = model["stacks"][stack]
            beta = found["beta"]
            assert [len(row) for row in beta] == list(range(1, sublayers + 2))
            own = sum(row[-1] ** 2 for row in beta[1:])
            assert found["sum_of_squared_diagonal"] == pytest.approx(own)
            assert f"Σ β_ii² = {own:.2f}" in printed
    table = rows("out", "dependency")
    assert len(table) == 3 * 2 * 7 * 8 / 2
    last = result["models"][2]["stacks"]["decoder"]["beta"][6][5]
    assert float(table[-2]["beta"]) == last and table[-2]["model"] == "Admin"
    endings = ("csv", "json", "png", "svg")
    assert sorted(p.name for p in tmp_path.rglob("*.*")) == [f"dependency.{e}" for e in endings]


def test_a_result_says_what_it_was_made_with(analyze, data):
    command = ["--arch", "postln_transformer_tiny --decoder-normalize-before", "--seed", "7"]
    command += ["--subset", "train"]
    words = ["--", "--share-all-embeddings", "--dropout", "0.3"]
    result, _ = analyze("dependency", "--depths", "2", *command, *words)
    assert result["conditions"]["words"] == words[1:] and result["conditions"]["seed"] == 7
    assert result["conditions"]["device"] == "cpu" and "torch" in result["versions"]
    assert result["models"][0]["label"] == "Post-LN/Pre-LN"
    again = result["command"].replace("-o out", "-o again")
    cli.main(shlex.split(again)[1:])
    assert read("again", "dependency")["models"] == result["models"]
    for ending in ("csv", "png", "svg"):
        one, other = (Path(f"{f}/dependency.{ending}").read_bytes() for f in ("out", "again"))
        assert one == other


def test_amplification(analyze):
    words = ["--depths", "1,2,4", "--seeds", "2", "--draws", "2", "--size", "0.02"]
    words += [*ONE, "--arch", "preln_transformer_tiny"]
    result, printed = analyze("amplification", *words)
    assert len(result["models"]) == 2 * 3 * 2
    assert {model["seed"] for model in result["models"]} == {1, 2}
    assert len(rows("out", "amplification")) == 2 * 3 * 2 * 2 * (2 + 1)
    assert len(result["curves"]) == 2 * 2 * 2
    for curve in result["curves"]:
        assert curve["layers"] == [1, 2, 4]
        seeds = [
            np.mean(model["changes"][curve["kind"]][curve["stack"]])
            for model in result["models"]
            if model["label"] == curve["model"] and model["layers"]["encoder"] == 4
        ]
        assert curve["mean"][-1] == pytest.approx(np.sqrt(seeds[0] * seeds[1]))
        assert curve["low"][-1] < curve["mean"][-1] < curve["high"][-1]
        assert f"∝ N^{curve['growth']['power']['slope']:.2f}" in printed
    assert result["relative_size"] == {"random": 0.02, "gradient": 0.0001}


def test_branches_that_start_at_zero_change_nothing(analyze):
    arch = ["--arch", "rezero_transformer_tiny"]
    result, printed = analyze("amplification", "--depths", "2", "--seeds", "1", *arch)
    assert all(curve["mean"] == [0.0] for curve in result["curves"])
    assert printed.count("0 at every depth") == 4


def test_gradients(analyze):
    archs = ["--arch", "postln_transformer_tiny", "--arch", "tfixup_transformer_tiny"]
    result, printed = analyze("gradients", "--depths", "2-3", "--updates", "2", *archs)
    post, tfixup = result["models"]
    assert [len(post["stacks"][s]["norm"]) for s in ("encoder", "decoder")] == [4, 9]
    assert max(tfixup["stacks"]["decoder"]["relative_norm"]) == 1
    matrices = 2 * 6 + 3 * 10
    assert np.shape(post["steps"]["gradients"]) == (2, matrices)
    assert len(rows("out", "gradients")) == 2 * (4 + 9 + 2 * matrices)
    assert "at update 2 the middle 80 %" in printed
    assert {"histograms.png", "updates.svg"} <= set(os.listdir("out"))


def test_magnitude(analyze):
    result, printed = analyze("magnitude", "--depths", "3-2", "--updates", "1")
    post, bare, tfixup = result["models"]
    labels = ["Post-LN", "Post-LN without layer norm", "T-Fixup"]
    assert [model["label"] for model in result["models"]] == labels
    for model in (post, bare, tfixup):
        for moment in (model["start"], model["updated"]):
            assert [len(moment[stack]["std"]) for stack in ("encoder", "decoder")] == [6, 6]
    # the same weights: alike until the first layer norm; then nothing holds the sum back
    assert bare["start"]["encoder"]["std"][0] == post["start"]["encoder"]["std"][0]
    assert bare["start"]["encoder"]["std"][-1] > 1.5 * post["start"]["encoder"]["std"][-1]
    assert tfixup["start"]["encoder"]["std"][-1] < 1
    assert len(rows("out", "magnitude")) == 3 * 2 * 12
    assert "Post-LN without layer norm, encoder, after 1 updates: std of x_i" in printed


def test_a_model_that_diverges_keeps_its_start(analyze):
    words = ["--depths", "1", "--updates", "2", "--arch", "rezero_transformer_tiny"]
    result, printed = analyze("magnitude", *words, "--", "--lr", "1e30")
    (model,) = result["models"]
    assert model["updated"] is None and model["start"]["decoder"]["std"]
    assert model["error"] in printed and "not finite" in model["error"]


def test_no_updates_no_pictures_of_them(analyze, tmp_path):
    result, _ = analyze("gradients", "--depths", "2", "--updates", "0")
    assert [model["steps"] for model in result["models"]] == [None] * 3
    assert not list(tmp_path.rglob("histograms.*"))


def test_stock_models_and_checkpoints_beside_ours(analyze, data, tmp_path):
    bench = Bench(Conditions(data=data, max_tokens=60, cpu=True))
    built = bench.put(Subject(("transformer", "--encoder-embed-dim", "16")), Depth(3, 3))
    torch.save({"args": built.run.model, "model": built.model.state_dict()}, "stock.pt")
    words = ["--path", "stock.pt", "--arch", "postln_transformer_tiny", "--depths", "2"]
    result, printed = analyze("dependency", *words)
    labels = [(model["label"], model["layers"]["encoder"]) for model in result["models"]]
    assert labels == [("Post-LN", 2), ("fairseq Post-LN", 3)]
    assert "fairseq Post-LN 3L-3L, encoder" in printed


def test_profiles(analyze, capsys):
    entries = [Entry("encoder", 0, "self_attn", 1.0, 0.5, 1.0)]
    entries += [Entry("encoder", 0, "ffn", 1.0, 2.5, 1.5)]
    Profile(entries).write("a/profile.json")
    with open("profile.ratio.init", "w") as file:
        file.write("1 1.0\n2 1.25\n1 1.0\n2 1.1\n3 1.2\n")
    cli.main(["analyze", "profile", "a/profile.json", "profile.ratio.init", "-o", "out"])
    first, second = read("out", "profile")["profiles"]
    assert first["name"] == "a/profile.json"
    assert [s["own_share"] for s in first["sublayers"]] == pytest.approx([1 / 3, 2.5 / 4.75])
    assert [s["sublayer"] for s in second["sublayers"]][2:] == ["self_attn", "encoder_attn", "ffn"]
    assert second["sublayers"][0]["branch_variance"] is None
    assert "a/profile.json, encoder: ω from 1 to 1.5 over 2 sub-layers" in capsys.readouterr().out


@pytest.mark.slow
def test_report(data, capsys):
    words = ["--depths", "2,3", "--at-depth", "2", "--seeds", "1", "--draws", "1", "--updates", "1"]
    words += ["--runs", str(watched_run("run"))]
    cli.main(["analyze", "report", "--data", data, *TINY, *words, "-o", "out"])
    with open("out/report.html") as file:
        html = file.read()
    studies = ("dependency", "amplification", "gradients", "magnitude", "profile", "training")
    for what in studies:
        result = read("out", what)
        assert result["study"] == what and escape(result["command"]) in html
    assert f"analyze training -o out run --data {data} --cpu" in result["command"]
    amplified = read("out", "profile")["command"]
    assert "analyze report" in amplified and "--at-depth 2" in amplified
    assert {model["layers"]["encoder"] for model in read("out", "dependency")["models"]} == {2}
    assert {m["layers"]["encoder"] for m in read("out", "amplification")["models"]} == {2, 3}
    assert html.count("data:image/svg+xml;base64,") == 9
    assert not re.search(r'(src|href)="(?!data:|#)', html)
    assert [p["name"] for p in read("out", "profile")["profiles"]] == ["Admin"]


@pytest.fixture
def no_pictures(monkeypatch):
    """As without matplotlib, which takes longer than the measurements."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "admin_fairseq.studies.drawing", raising=False)
    monkeypatch.delattr("admin_fairseq.studies.drawing", raising=False)


@pytest.mark.usefixtures("no_pictures")
def test_a_reports_depths_bind_all_of_it_and_it_says_where_it_is(data, capsys):
    words = ["--depths", "2,3", "--seeds", "1", "--draws", "1", "--updates", "0"]
    cli.main(["analyze", "report", "--data", data, *TINY, *words, *ONE, "-o", "out"])
    for what in ("dependency", "gradients"):
        assert {model["layers"]["encoder"] for model in read("out", what)["models"]} == {3}
    told = capsys.readouterr().err.splitlines()
    assert "dependency: 1 model, layers 3 ..." in told
    assert "amplification: 1 model, layers 2,3 ..." in told


@pytest.mark.usefixtures("no_pictures")
def test_without_matplotlib_numbers_are_written(data, capsys):
    words = ["--depths", "1", "--seeds", "1", "--draws", "1", "--updates", "0"]
    cli.main(["analyze", "report", "--data", data, *TINY, *words, *ONE, "-o", "out"])
    assert "pip install matplotlib" in capsys.readouterr().err
    assert {"dependency.csv", "report.html"} <= set(os.listdir("out"))
    assert not [name for name in os.listdir("out") if name.endswith((".png", ".svg"))]


@pytest.mark.parametrize(
    "words, message",
    [
        (["--arch", "nonsense"], "unknown --arch nonsense"),
        (["--arch", "'"], "No closing quotation"),
        (["--arch", ""], "needs the name"),
        (["--depths", "0"], "is not a depth"),
        (["--depths", "2-3-4"], "is not a depth"),
        (["--depths", "1000000000"], "is not a depth"),
        (["--depths", "9" * 5000], "is not a depth"),
        (["--arch", "transformer --encoder-layers 1000000000"], "--encoder-layers takes a whole"),
        (["--", "--decoder-layers", "0"], "--decoder-layers takes a whole"),
        (["--depths", "2", "--", "--foo"], "unrecognized arguments: --foo"),
        (["--depths", "2", "--max-tokens", "1"], "no sentence fits"),
        (["--depths", "2", "--subset", "nope"], "nope"),
        (["--path", "nowhere.pt"], "nowhere.pt: cannot be read"),
        (["--arch", "lstm"], "not a fairseq transformer"),
        (["--arch", "nonautoregressive_transformer"], "not a fairseq transformer"),
        (["--seed", "4294967296"], "--seed takes a whole number from 0 to"),
        (["--seed", "-1"], "--seed takes a whole number from 0 to"),
        (["--arch", "transformer_lm"], "dict.txt"),
    ],
)
def test_bad_input_is_told_in_one_line_and_leaves_nothing(data, tmp_path, words, message):
    with pytest.raises(SystemExit, match=re.escape(message)) as error:
        cli.main(["analyze", "dependency", "--data", data, *TINY, "-o", "out", *words])
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--size", "--gradient-size"])
def test_a_change_that_is_too_large_is_told(data, tmp_path, option):
    words = ["--depths", "1", "--seeds", "1", "--arch", "preln_transformer_tiny", option, "1e30"]
    with pytest.raises(SystemExit, match="Pre-LN: the change is too large"):
        cli.main(["analyze", "amplification", "--data", data, *TINY, "-o", "out", *words])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words, message",
    [
        (["--seed", "4294967295", "--seeds", "2"], "--seed 4294967295 with --seeds 2"),
        (["--seeds", "1000000000"], "--seeds takes a whole number from 1 to 1,000, not 1000000000"),
        (["--draws", "0"], "--draws takes a whole number from 1 to 1,000, not 0"),
        (["--size", "1e-320"], "--size takes a number from 1e-12 on, not 1e-320"),
    ],
)
def test_sizes_of_the_random_draws_are_bounded(data, tmp_path, words, message):
    with pytest.raises(SystemExit, match=message):
        cli.main(["analyze", "amplification", "--data", data, *TINY, "-o", "out", *words])
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_while_drawing_leaves_nothing(data, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("admin_fairseq.studies.drawing.rendered", interrupt)
    with pytest.raises(SystemExit, match="130"):
        cli.main(["analyze", "dependency", "--data", data, *TINY, "-o", "out", "--depths", "1"])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_told_before_anything_is_measured(data, tmp_path, monkeypatch):
    (tmp_path / "out").write_text("mine")
    monkeypatch.setattr("admin_fairseq.analysis.bench.Bench.put", None)
    with pytest.raises(SystemExit, match="out: cannot be written to"):
        cli.main(["analyze", "dependency", "--data", data, *TINY, "-o", "out"])


def test_depths_are_sorted_and_models_told_apart(analyze):
    twice = ["--arch", "postln_transformer_tiny"] * 2
    gelu = ["--arch", "postln_transformer_tiny --activation-fn gelu --decoder-layers 1"]
    words = [*twice, *gelu, "--depths", "3,1,3,2-1", "--seeds", "1", "--draws", "1"]
    result, _ = analyze("amplification", *words)
    curves = {c["model"]: c["layers"] for c in result["curves"] if c["stack"] == "encoder"}
    assert list(curves.values()) == [[1, 2, 3], [6]]
    one, other = curves
    assert one == "Post-LN (postln_transformer_tiny)" and "gelu" in other


def test_training_that_diverges_is_told_and_leaves_nothing(data, tmp_path):
    (tmp_path / "checkpoints").mkdir()  # where fairseq would save what crashed
    words = ["--depths", "2", "--updates", "3", "--", "--lr", "1e30"]
    with pytest.raises(SystemExit, match="Post-LN: gradients are not finite"):
        cli.main(["analyze", "gradients", "--data", data, *TINY, "-o", "out", *words])
    assert [p.name for p in tmp_path.rglob("*")] == ["checkpoints"]


def test_nothing_is_overwritten_unless_forced_and_then_nothing_old_stays(
    analyze, tmp_path, monkeypatch
):
    (tmp_path / "out").mkdir()
    old = tmp_path / "out" / "dependency.svg"
    old.write_text("old")
    with pytest.raises(SystemExit, match=r"dependency\.svg: already exists"):
        analyze("dependency", "--depths", "2")
    assert [p.name for p in tmp_path.glob("out/*")] == ["dependency.svg"]
    assert old.read_text() == "old"
    analyze("dependency", "--depths", "2", "--force")
    assert old.read_text() != "old"
    monkeypatch.setattr("admin_fairseq.studies.files.rendered", lambda pictures: {})
    analyze("dependency", "--depths", "2", "--force")
    assert {p.name for p in tmp_path.glob("out/*")} == {"dependency.json", "dependency.csv"}


@pytest.mark.parametrize(("what", "passed_on"), [("gradients", True), ("profile", False)])
def test_help_speaks_of_fairseqs_options_where_they_are_passed_on(what, passed_on, capsys):
    with pytest.raises(SystemExit):
        cli.main(["analyze", what, "--help"])
    assert ("Arguments after --" in capsys.readouterr().out) is passed_on
