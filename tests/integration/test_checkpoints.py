"""Checkpoints that come from elsewhere: stock fairseq's, and hostile ones."""

import argparse
import os
import pickle

import fairseq
import pytest
import torch

from .shims import python

ATTENTION = ["--encoder-attention-heads", "2", "--decoder-attention-heads", "2"]
SIZES = ["--encoder-embed-dim", "64", "--encoder-ffn-embed-dim", "128", *ATTENTION]


stock_postln_translates = pytest.mark.skipif(
    fairseq.__version__ == "0.12.2",
    reason="there, stock Post-LN encoders cannot translate padded batches under torch 2",
)


@pytest.mark.parametrize(
    "arch, before",
    [
        pytest.param("postln", [], marks=stock_postln_translates),
        ("preln", ["encoder", "decoder"]),
    ],
)
def test_stock_checkpoint_translates_the_same_through_ours(arch, before, run, data, tmp_path):
    norms = [f"--{stack}-normalize-before" for stack in before]
    stock, ours = tmp_path / "stock", tmp_path / "ours"
    run.train(data, stock, *SIZES, *norms, "--max-update", 20, arch="transformer")
    # one update at learning rate 0 brings it over: same weights, our architecture
    words = ["--finetune-from-model", stock / "checkpoint_last.pt", "--max-update", 1]
    still = ["--optimizer", "sgd", "--lr", "0", "--lr-scheduler", "fixed"]
    run(
        *["fairseq-train", data, "--user-dir", "admin_fairseq", "--cpu", "--max-tokens", "120"],
        *["--source-lang", "de", "--target-lang", "en", "--share-all-embeddings"],
        *["--encoder-layers", "3", "--decoder-layers", "2", "--num-workers", "0"],
        *["--arch", f"{arch}_transformer_tiny", "--save-dir", ours, "--disable-validation"],
        *words,
        *still,
    )
    # the plugin's allow-list is what lets torch >= 2.6 read a stock checkpoint at all
    expected = run.generate(data, stock / "checkpoint_last.pt", "--user-dir", "admin_fairseq")
    found = run.generate(data, ours / "checkpoint_last.pt", "--user-dir", "admin_fairseq")
    assert len(expected.hypotheses()) == 10
    for mine, theirs in zip(found.hypotheses(), expected.hypotheses()):
        (number, score, words), (same, its_score, its_words) = mine.split("\t"), theirs.split("\t")
        assert (number, words) == (same, its_words)
        assert float(score) == pytest.approx(float(its_score), abs=1e-5)


class Runs:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_what_would_run_code_is_refused(run, data, tmp_path, monkeypatch):
    """A pickle that calls, and options that fairseq evaluates."""
    # the usual advice for fairseq under torch 2.6 and later
    monkeypatch.setitem(run.environment, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    ran, checkpoint = tmp_path / "ran", tmp_path / "evil.pt"
    options = {"_name": "transformer", "adaptive_softmax_cutoff": f"open({str(ran)!r}, 'w')"}
    for state in (
        {"model": {}, "args": Runs(f"touch {ran}")},
        {"model": {}, "args": None, "cfg": {"model": options, "task": {"_name": "translation"}}},
    ):
        torch.save(state, checkpoint)
        failed = run.generate(data, checkpoint, "--user-dir", "admin_fairseq", status=1)
        line = failed.errors.strip().splitlines()[-1]
        assert line.startswith(f"admin-fairseq: error: {checkpoint}: refused")
        assert "system" in line or "adaptive_softmax_cutoff" in line
        assert "Traceback" not in failed.errors
        assert not ran.exists()


@pytest.mark.parametrize("damage", ["text", "empty", "cut", "pickle"])
def test_what_is_no_checkpoint_gets_one_line(damage, run, data, tmp_path):
    checkpoint = tmp_path / "broken.pt"
    torch.save({"model": {"w": torch.ones(1000)}, "args": argparse.Namespace()}, checkpoint)
    content = {
        "text": b"not a checkpoint\n",
        "empty": b"",
        "cut": checkpoint.read_bytes()[:1500],
        "pickle": pickle.dumps({"a": 1})[:-1],
    }[damage]
    checkpoint.write_bytes(content)
    failed = run.generate(data, checkpoint, "--user-dir", "admin_fairseq", status=1)
    line = failed.errors.strip().splitlines()[-1]
    assert line.startswith(f"admin-fairseq: error: {checkpoint}: not a checkpoint")
    assert "Traceback" not in failed.errors


def test_importing_the_package_is_enough_to_load_a_stock_checkpoint(tmp_path):
    checkpoint = tmp_path / "stock.pt"
    torch.save({"args": argparse.Namespace(arch="transformer"), "model": {}}, checkpoint)
    program = f"import admin_fairseq, torch; print(torch.load({str(checkpoint)!r})['args'].arch)"
    done = python(program)
    assert done.stdout.strip() == "transformer", done.stderr


def test_sub_ln_of_earlier_versions_stays_as_it_was(run, data, tmp_path):
    """With a norm inside attention to the encoder, for which there was no option."""
    folder, option = tmp_path / "subln", "--subln-in-encoder-attention"
    train = ["--encoder-layers", "1", "--decoder-layers", "1"]
    arch = "subln_transformer_tiny"
    run.train(data, folder, *train, option, "--max-update", 2, arch=arch)
    checkpoint = folder / "checkpoint_last.pt"
    expected = run.generate(data, checkpoint, "--user-dir", "admin_fairseq")
    state = torch.load(checkpoint)
    assert state["cfg"]["model"].pop("subln_in_encoder_attention") is True
    torch.save(state, checkpoint)
    found = run.generate(data, checkpoint, "--user-dir", "admin_fairseq")
    assert len(found.hypotheses()) == 10
    assert found.hypotheses() == expected.hypotheses()
    # a command line of today says the option; without it the model has no place for the norm
    failed = run.train(data, folder, *train, "--max-update", 3, arch=arch, status=1)
    assert failed.errors.strip().splitlines()[-1].endswith(f"add {option}")
