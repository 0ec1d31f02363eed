"""Encoder-only models by the real commands: profile, train, resume, finetune, validate, fold."""

import json
import re

import pytest

from admin_fairseq import cli

SAMPLES = ["--task", "masked_lm", "--tokens-per-sample", "24", "--sample-break-mode", "complete"]
CLASSIFY = [
    *("--task", "sentence_prediction", "--criterion", "sentence_prediction", "--num-classes", "2"),
    *("--init-token", "0", "--max-positions", "24"),
]
MODEL = [
    *("--user-dir", "admin_fairseq", "--cpu"),
    *("--arch", "admin_transformer_mlm_tiny", "--encoder-layers", "2"),
    *("--encoder-learned-pos", "--layernorm-embedding"),
    *("--optimizer", "adam", "--adam-betas", "(0.9, 0.98)", "--lr", "5e-3"),
    *("--lr-scheduler", "inverse_sqrt", "--warmup-updates", "10"),
    *("--max-tokens", "240", "--seed", "3", "--num-workers", "0"),
    *("--log-format", "simple", "--log-interval", "1", "--no-epoch-checkpoints"),
]
TRAIN = [*MODEL, "--criterion", "masked_lm", *SAMPLES]


def train(run, text, folder, *words, status=0):
    return run("fairseq-train", text, *TRAIN, "--save-dir", folder, *words, status=status)


def valid_loss(run, text, checkpoint, *words):
    command = ["fairseq-validate", text, *SAMPLES, "--criterion", "masked_lm", "--cpu"]
    output = run(*command, "--path", checkpoint, "--batch-size", "8", "--num-workers", "0", *words)
    return float(re.search(r"valid on 'valid' subset \| loss ([0-9.]+)", output + output.errors)[1])


def test_profile_train_resume_validate_and_fold(run, text, tmp_path):
    folder = tmp_path / "run"
    log = train(run, text, folder, "--init-type", "adaptive-profiling")
    assert "profile written to" in log and not log.losses()
    profile = json.loads((folder / "profile.json").read_text())
    assert profile["model"]["encoder_layers"] == 2 and "decoder_layers" not in profile["model"]
    assert [entry["stack"] for entry in profile["sublayers"]] == ["encoder"] * 4

    adaptive = ("--init-type", "adaptive", "--max-update")
    first = train(run, text, folder, *adaptive, "15")
    assert "4 sub-layers set" in first
    (folder / "profile.json").unlink()
    second = train(run, text, folder, *adaptive, "30", "--log-dynamics", "5")
    assert "sub-layers set" not in second
    losses = [float(loss) for loss in first.losses() + second.losses()]
    assert len(losses) == 30 and losses[-1] < losses[0] - 0.3
    lines = [json.loads(line) for line in (folder / "dynamics.jsonl").read_text().splitlines()]
    assert any("beta" in json.dumps(line) for line in lines)

    checkpoint = folder / "checkpoint_last.pt"
    measured = valid_loss(run, text, checkpoint, "--user-dir", "admin_fairseq")
    assert measured < losses[0]
    cli.main(["fold", str(checkpoint), str(tmp_path / "folded.pt"), "--check"])
    assert valid_loss(run, text, tmp_path / "folded.pt") == pytest.approx(measured, abs=0.002)
    with pytest.raises(SystemExit, match="a model for masked_lm"):
        cli.main(["export", "--to", "ctranslate2", str(checkpoint), "out", "--data", str(text)])


def test_finetuning_measures_no_profile(run, text, tmp_path):
    train(run, text, tmp_path / "one", "--max-update", "2", "--disable-validation")
    model = tmp_path / "one" / "checkpoint_last.pt"
    words = ("--finetune-from-model", model, "--max-update", "2", "--disable-validation")
    log = train(run, text, tmp_path / "two", *words)
    assert len(log.losses()) == 2 and "sub-layers set" not in log
    refused = train(run, text, tmp_path / "three", *words, "--share-all-embeddings", status=2)
    assert "unrecognized arguments: --share-all-embeddings" in refused.errors


def test_finetuning_to_tell_two_languages_apart(run, data, text, tmp_path):
    train(run, text, tmp_path / "one", "--max-update", "2", "--disable-validation")
    for split in ("train", "valid"):
        sides = [(data.parent / f"{split}.{side}").read_text() for side in ("de", "en")]
        labels = [f"{label}\n" * side.count("\n") for label, side in enumerate(sides)]
        (tmp_path / f"{split}.text").write_text("".join(sides))
        (tmp_path / f"{split}.label").write_text("".join(labels))
    for name, kind in (("input0", "text"), ("label", "label")):
        words = [f"--{s}pref={tmp_path / s}.{kind}" for s in ("train", "valid")]
        words += ["--srcdict", text / "dict.txt"] if kind == "text" else []
        run("fairseq-preprocess", "--only-source", *words, "--destdir", tmp_path / "bin" / name)
    start = ["--finetune-from-model", tmp_path / "one" / "checkpoint_last.pt", "--max-update", "20"]
    command = ["fairseq-train", tmp_path / "bin", *MODEL, *CLASSIFY, *start]
    log = run(*command, "--save-dir", tmp_path / "two")
    assert "sub-layers set" not in log and len(log.losses()) == 20
    command += ["--num-classes", "3", "--save-dir", tmp_path / "two"]
    assert "which is (3, 64) in this run; use the same options" in run(*command, status=1).errors
    model, folded = tmp_path / "two" / "checkpoint_last.pt", tmp_path / "folded.pt"
    cli.main(["fold", str(model), str(folded), "--check"])
    for words in (model, "--user-dir", "admin_fairseq"), (folded,):
        command = ["fairseq-validate", tmp_path / "bin", *CLASSIFY, "--cpu", "--num-workers", "0"]
        output = run(*command, "--batch-size", "8", "--path", *words)
        assert float(re.search(r"accuracy ([0-9.]+)", output + output.errors)[1]) > 90
