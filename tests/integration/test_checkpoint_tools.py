"""A trained model goes through fold, average, export and translate, as a user types them."""

import os
import shutil

import fairseq
import pytest
import torch

from admin_fairseq import cli

stock_postln_translates = pytest.mark.skipif(
    fairseq.__version__ == "0.12.2",
    reason="there, stock Post-LN encoders cannot translate padded batches under torch 2",
)
OURS = ["--user-dir", "admin_fairseq"]


@pytest.fixture(scope="module")
def trained(run, data, tmp_path_factory):
    """A run of 60 updates with checkpoints on the way; ω has left its start."""
    folder = tmp_path_factory.mktemp("trained")
    saving = ["--save-interval-updates", 20, "--keep-best-checkpoints", 2]
    run.train(data, folder, "--max-update", 60, "--lr", "5e-3", *saving, validate=True)
    return folder


@pytest.fixture(scope="module")
def translations(run, data, trained):
    """What fairseq-generate makes of the last checkpoint: number → text."""
    return texts(run.generate(data, trained / "checkpoint_last.pt", *OURS))


def texts(output):
    fields = (line[2:].split("\t") for line in output.hypotheses())
    found = {int(number): text for number, _, text in fields}
    assert len(found) == 10
    return found


@stock_postln_translates
def test_folded_checkpoint_translates_without_the_plugin(
    run, data, trained, translations, tmp_path, capsys
):
    folded, twice = tmp_path / "folded.pt", tmp_path / "twice.pt"
    told = run("admin-fairseq", "fold", trained / "checkpoint_last.pt", folded, "--check")
    assert "folded the scales of 6 encoder and 6 decoder sub-layers" in told
    assert "untied the encoder's embeddings from the decoder's" in told
    difference = told.split("random sentences: ")[1].split()[0]
    assert 0 < float(difference) <= 1e-5
    # fairseq alone: its reader accepts nothing but plain types
    assert texts(run.generate(data, folded)) == translations

    cli.main(["fold", str(folded), str(twice), "--check"])
    told = capsys.readouterr().out
    assert "nothing to fold" in told and told.split("sentences: ")[1].split()[0] == "0"
    assert twice.read_bytes() == folded.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["folded.pt", "twice.pt"]


def test_stock_checkpoint_folds_to_itself(run, data, tmp_path, capsys):
    sizes = ["--encoder-embed-dim", "64", "--encoder-ffn-embed-dim", "128"]
    heads = ["--encoder-attention-heads", "2", "--decoder-attention-heads", "2"]
    run.train(data, tmp_path, *sizes, *heads, "--max-update", 1, arch="transformer")
    stock = tmp_path / "checkpoint_last.pt"
    cli.main(["fold", str(stock), str(tmp_path / "out.pt"), "--check"])
    assert "nothing to fold" in capsys.readouterr().out
    before = torch.load(stock)["model"]
    after = torch.load(tmp_path / "out.pt", weights_only=True)["model"]
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_exported_model_translates_the_same(run, data, trained, translations, tmp_path):
    pytest.importorskip("ctranslate2", reason="CTranslate2 is an optional extra")
    checkpoint, model = trained / "checkpoint_last.pt", tmp_path / "model"
    export = ["admin-fairseq", "export", "--to", "ctranslate2", checkpoint, model, "--data", data]
    assert f"wrote {model}" in run(*export)
    search = ["--device", "cpu", "--beam", 2, "--max-len-b", 20]
    found = run("admin-fairseq", "translate", model, *search, stdin=data.parent / "test.de")
    assert found.splitlines() == [translations[number] for number in range(10)]
    assert "Translated 10 sentences in" in found.errors
    (tmp_path / "latin1").write_bytes("q1 q2\nq\xe9\n".encode("latin-1"))
    failed = run("admin-fairseq", "translate", model, stdin=tmp_path / "latin1", status=1)
    assert failed.errors.splitlines()[-1] == "admin-fairseq: error: standard input is not UTF-8"
    assert "Traceback" not in failed.errors


def test_averages_of_a_run_translate(run, data, trained, tmp_path):
    command = ["admin-fairseq", "average", "--inputs", trained, "--output"]
    told = run(*command, tmp_path / "updates.pt", "--num-update-checkpoints", 2)
    paths = [line.split()[1] for line in told.splitlines() if line.startswith("averaged")]
    assert [path.rsplit("_", 1)[1] for path in paths] == ["20.pt", "40.pt"]
    best = ["--num-best-checkpoints", "3", "--output", str(tmp_path / "best.pt")]
    cli.main(["average", "--inputs", str(trained), *best])
    many = [torch.load(path)["model"] for path in paths]
    mean = torch.load(tmp_path / "updates.pt", weights_only=True)["model"]
    for name, weight in mean.items():
        assert torch.allclose(weight, (many[0][name] + many[1][name]) / 2, atol=1e-7), name
    for name in ("updates.pt", "best.pt"):
        texts(run.generate(data, tmp_path / name, *OURS))


def test_tools_refuse_what_they_cannot_do(data, trained, tmp_path, capsys):
    last, out = trained / "checkpoint_last.pt", tmp_path / "out"
    (tmp_path / "text.pt").write_text("not a checkpoint\n")
    (tmp_path / "there.pt").write_text("precious")
    other = shutil.copytree(data, tmp_path / "other")
    with open(other / "dict.de.txt", "a", encoding="utf-8") as file:
        file.write("more 1\n")
    export = ["export", "--to", "ctranslate2", last, out, "--data"]
    release = ["import-release", last, out, "--data"]
    average = ["average", "--output", out, "--inputs"]
    for words, message in (
        (["fold", tmp_path / "text.pt", out], "not a checkpoint"),
        (["fold", tmp_path / "none.pt", out], "cannot be read: No such file"),
        (["fold", last, tmp_path / "there.pt"], "already exists; use --force"),
        ([*release, data], "not a transformer of the original Admin release"),
        ([*release, tmp_path / "none"], "must be the folder that fairseq-preprocess wrote"),
        ([*export, other], "dict.de.txt: 89 types"),
        (["export", "--to", "marian", last, out, "--data", data], "invalid choice"),
        (["translate", tmp_path], "not a CTranslate2 model"),
        ([*average, trained], "choose its checkpoints with a --num option"),
        ([*average, trained, "--num-epoch-checkpoints", "99"], "99 checkpoints were requested"),
        ([*average, last, last, "--num-best-checkpoints", "1"], "must be one folder"),
        ([*average, last, "--checkpoint-upper-bound", "3"], "--checkpoint-upper-bound needs"),
        ([*average, trained, "--num-best-checkpoints", "0"], "not a whole number from 1 on"),
    ):
        with pytest.raises(SystemExit) as error:
            cli.main(list(map(str, words)))
        assert message in str(error.value) and "\n" not in str(error.value)
        assert capsys.readouterr().out == ""
    assert not out.exists()
    assert (tmp_path / "there.pt").read_text() == "precious"
    assert sorted(os.listdir(tmp_path)) == ["other", "text.pt", "there.pt"]
