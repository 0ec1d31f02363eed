import os
import sys

import pytest
import torch

pytest.importorskip("matplotlib")

from admin_fairseq.benchmarks import depth, gpu, isolated, memory, sides, trainers
from admin_fairseq.benchmarks.isolated import Peak, peak_of
from admin_fairseq.benchmarks.options import Workload
from admin_fairseq.fairseq_runs import OutOfMemory
from tests.benchmarks.conftest import LAYERS, SMALLER, TINY

ENDINGS = ("csv", "json", "png", "svg")


def check_files(folder, name, result):
    """The four files are there, and the JSON says what it was made with."""
    assert {path.name for path in folder.iterdir()} == {f"{name}.{ending}" for ending in ENDINGS}
    assert result["table"] == name
    assert result["command"].startswith(f"admin-fairseq benchmark {name} -o ")
    assert result["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert {"python", "torch", "numpy"} <= result["versions"].keys()
    assert result["machine"]["threads"] == 1 and "--threads 1" in result["command"]


@pytest.fixture
def here(monkeypatch):
    """Peaks without a process of their own: side → the number of its turn, in MiB."""
    asked = []

    def peak(side, updates):
        asked.append(side)
        return Peak(len(asked) * 2**20, 7, 0.1)

    monkeypatch.setattr(memory, "peak_of", peak)
    monkeypatch.setattr(depth, "peak_of", peak)
    return asked


def test_training(command, tmp_path, capsys):
    words = [*TINY, *LAYERS, "--blocks", "2", "--updates", "1", "--warmup-updates", "1"]
    words += ["--config", "fast paths", "--config", "RAdam: --optimizer radam"]
    words += ["--loss-updates", "3", "--loss-of", "fast paths", "--loss-lr", "1e-3"]
    words += ["--arch", "postln_transformer_tiny", *SMALLER, "--dropout", "0"]
    result = command("training", *words)
    check_files(tmp_path, "training", result)
    first, second = result["configurations"]
    assert (first["name"], second["name"]) == ("fast paths", "RAdam")
    for one in (first, second):
        mine, theirs = (one[side]["words_per_second"]["by_block"] for side in ("ours", "stock"))
        assert one["ratio"]["by_block"] == [m / t for m, t in zip(mine, theirs)]
        assert one["ratio"]["lowest"] <= one["ratio"]["median"] <= one["ratio"]["highest"]
    assert "--optimizer radam" in second["command"]
    assert "--optimizer radam" not in first["command"] + result["stock_command"]
    # the same weights, batches and, without dropout, mathematics
    stock, ours = result["losses"]["runs"]
    assert result["losses"]["averaged"] == 3 == len(ours["by_update"])
    assert stock["relative_difference"] == 0
    assert ours["by_update"] == pytest.approx(stock["by_update"], rel=1e-4)
    assert stock["by_update"][2] < stock["by_update"][0]
    printed = capsys.readouterr().out
    assert f"ratio {first['ratio']['median']:.3f}" in printed


def test_nothing_is_overwritten_nor_measured_in_vain(command, tmp_path, monkeypatch):
    (tmp_path / "training.png").write_text("mine")
    monkeypatch.setattr(trainers, "train", None)  # whoever measures fails otherwise
    with pytest.raises(SystemExit, match="use --force"):
        command("training", *TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["training.png"]
    assert (tmp_path / "training.png").read_text() == "mine"


def test_wrong_options_are_told_before_anything_is_measured(command, monkeypatch):
    monkeypatch.setattr(trainers, "train", None)
    with pytest.raises(SystemExit, match=r"fairseq-train's options: .*--nonsense"):
        command("training", *TINY, "--config", "fast paths", "--config", "mine: --nonsense")
    with pytest.raises(SystemExit, match="no configuration 'fats'"):
        command("training", *TINY, "--config", "fast paths", "--loss-of", "fats")


def test_a_configuration_that_nobody_knows(command):
    with pytest.raises(SystemExit, match="'fats' is neither 'NAME: OPTIONS' nor one of"):
        command("training", "--config", "fats")


def test_memory(command, tmp_path, here):
    ours = ["--ours=--optimizer radam", "--repeats", "2"]
    result = command("memory", *TINY, *LAYERS, *ours, *SMALLER)
    check_files(tmp_path, "memory", result)
    assert len(here) == 2 * 2 * 2
    kept, _ = result["cases"]
    assert (kept["stock"]["peak_memory"], kept["ours"]["peak_memory"]) == (1.5 * 2**20, 3.5 * 2**20)
    assert kept["ratio"] == pytest.approx(3.5 / 1.5)
    assert ["--checkpoint-activations" in side.words for side in here] == [False] * 4 + [True] * 4
    assert ["radam" in side.words for side in here] == [False, False, True, True] * 2
    assert all("--encoder-embed-dim" in side.words for side in here)


def test_memory_that_does_not_suffice_is_a_row(command, monkeypatch, capsys):
    monkeypatch.setattr(memory, "peak_of", lambda side, updates: Peak(error="out of memory"))
    result = command("memory", *TINY, "--ours=")
    assert [case["ratio"] for case in result["cases"]] == [None, None]
    assert "stock out of memory, ours out of memory, ratio n/a" in capsys.readouterr().out


def test_width_of_the_deep_model(command, monkeypatch):
    asked = []
    monkeypatch.setattr(
        memory, "peak_of", lambda side, updates: asked.append(side) or Peak(error="none")
    )
    words = ["--cpu", "--vocabulary", "60", "--threads", "1", "--ours="]
    command("memory", *words)
    for side in asked:
        model = side.run.model
        assert (model.encoder_layers, model.decoder_layers) == (60, 12)
        assert (model.encoder_embed_dim, model.decoder_ffn_embed_dim) == (256, 1024)
        assert model.decoder_attention_heads == 4


@pytest.fixture
def hostile_folder(tmp_path, monkeypatch):
    """The working directory has modules that nobody asked for; Python 3.11 can pass them over."""
    if sys.version_info >= (3, 11):
        for name in ("pickle", "numpy", "fairseq", "admin_fairseq"):
            (tmp_path / f"{name}.py").write_text("open('ran', 'w')\nraise SystemExit\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    yield tmp_path
    assert not (tmp_path / "ran").exists() and "PYTHONSAFEPATH" not in os.environ


@pytest.mark.usefixtures("hostile_folder")
def test_a_process_of_its_own():
    workload = Workload(
        arch="admin_transformer_tiny",
        encoder_layers=2,
        decoder_layers=2,
        vocabulary=5000,
        max_tokens=300,
    )
    peak = peak_of(sides.ours(workload)._replace(name="ours").with_options("--cpu"), updates=2)
    assert peak.error in (None, "cannot be measured here")
    assert peak.parameters > 5000 * 64
    if peak.error is None:  # weights, gradients, two averages
        assert peak.peak_memory >= 4 * 4 * peak.parameters
    assert peak.seconds_per_update > 0


def test_a_process_that_is_killed(monkeypatch):
    monkeypatch.setattr(isolated, "_peak_here", _die)
    assert "killed" in peak_of(sides.ours(Workload()), updates=1).error


def _die(*args):
    import os

    os._exit(9)


def test_depth(command, tmp_path, here):
    words = ["--depths", "1,3", "--blocks", "2", "--updates", "1", "--warmup-updates", "0"]
    result = command("depth", *TINY, *words, "--decoder-layers", "1", *SMALLER)
    check_files(tmp_path, "depth", result)
    assert [point["layers"] for point in result["points"]] == [2, 4]
    assert [point["depth"] for point in result["points"]] == ["1", "3-1"]
    # from 2 to 4 MiB, as ``here`` has them
    assert result["slopes"]["ours"]["peak_memory"]["neighbours"] == pytest.approx([1])
    assert len(result["slopes"]["stock"]["seconds_per_update"]["neighbours"]) == 1
    for point in result["points"]:
        assert point["ours"]["seconds_per_update"]["median"] > 0
        mine, theirs = (point[side]["seconds_per_update"]["by_block"] for side in ("ours", "stock"))
        assert point["speed_ratio"]["by_block"] == [t / m for m, t in zip(mine, theirs)]
    assert ["3" in side.words for side in here] == [False, False, True, True]


def test_one_depth_has_no_slopes(command, tmp_path, here):
    """Also where options keep both stacks as they are."""
    words = ["--depths", "1,3", "--blocks", "1", "--updates", "1", "--warmup-updates", "0"]
    kept = ["--encoder-layers", "1", "--decoder-layers", "1", "--no-memory"]
    result = command("depth", *TINY, *words, *kept, *SMALLER)
    assert [point["depth"] for point in result["points"]] == ["1"]
    assert set(result["slopes"]["ours"].values()) == {None}


def test_generation(command, tmp_path):
    words = ["--blocks", "2", "--batches", "3", "--length", "4", "--ours=--reference-kernels"]
    result = command("generation", *TINY, *LAYERS, *words, *SMALLER)
    check_files(tmp_path, "generation", result)
    assert result["differing_hypotheses"] == 0
    assert (result["batches"], result["sentences"]) == (3, 9)
    # four tokens and end of sentence
    assert result["stock"]["tokens"] == result["ours"]["tokens"] == 9 * 5
    assert len(result["ratio"]["by_block"]) == 2


def test_generation_wants_data_for_a_checkpoint(command):
    with pytest.raises(SystemExit, match="--path needs --data"):
        command("generation", *TINY, "--path", "checkpoint.pt")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_gpu_needs_one(command):
    with pytest.raises(SystemExit, match="torch sees no CUDA device here") as error:
        command("gpu")
    assert "\n" not in str(error.value)


GPU = ["--cpu", "--precision", "fp32", "--size", "iwslt", "--vocabulary", "60", "--threads", "1"]
GPU += ["--layers", "1", "--max-tokens", "100", "--blocks", "2", "--updates", "1"]
GPU += ["--warmup-updates", "1", "--ours="]


def test_gpu_on_a_cpu(command, tmp_path):
    result = command("gpu", *GPU, "--peak-tflops", "2", *SMALLER)
    check_files(tmp_path, "gpu", result)
    (row,) = result["rows"]
    assert (row["size"], row["precision"]) == ("iwslt", "fp32")
    for side in (row["stock"], row["ours"]):
        assert side["share_of_peak"] == pytest.approx(side["flops_per_second"] / 2e12)
    assert len(row["ratio"]["speed"]["by_block"]) == 2


def test_a_row_that_does_not_fit_leaves_the_other_side(command, monkeypatch, capsys):
    measure, refused = gpu.fresh_block, []

    def fits_ours_alone(run, *args):
        if run.model._name == "transformer":
            refused.append(run)
            raise OutOfMemory
        return measure(run, *args)

    monkeypatch.setattr(gpu, "fresh_block", fits_ours_alone)
    result = command("gpu", *GPU, *SMALLER)
    (row,) = result["rows"]
    assert row["stock"]["error"] == "out of memory"
    assert len(refused) == 1  # and not tried again in the second block
    assert row["ours"]["words_per_second"]["median"] > 0
    assert row["ratio"] is None
    assert "stock out of memory; ours " in capsys.readouterr().out


def test_steps(command, tmp_path):
    words = ["--blocks", "1", "--updates", "1", "--warmup-updates", "1"]
    result = command("steps", *TINY, *LAYERS, *words, *SMALLER)
    check_files(tmp_path, "steps", result)
    for side in (result["stock"], result["ours"]):
        families = side["families"]
        assert {"matrix products", "optimiser", "layer norm"} <= families.keys()
        assert sum(one["share"] for one in families.values()) == pytest.approx(1)
        assert side["longest_operators"][0]["milliseconds"] > 0
