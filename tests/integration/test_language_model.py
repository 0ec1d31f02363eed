"""Decoder-only models by the real commands: profile, train, resume, perplexity, fold."""

import json
import re

import pytest

from admin_fairseq import cli
from admin_fairseq.models.language_model import AdminTransformerLanguageModel

SAMPLES = ["--tokens-per-sample", "24", "--sample-break-mode", "complete"]
TRAIN = [
    *("--user-dir", "admin_fairseq", "--task", "language_modeling", "--cpu", *SAMPLES),
    *("--decoder-layers", "2", "--share-decoder-input-output-embed"),
    *("--optimizer", "adam", "--adam-betas", "(0.9, 0.98)", "--lr", "5e-3"),
    *("--lr-scheduler", "inverse_sqrt", "--warmup-updates", "10"),
    *("--max-tokens", "240", "--seed", "3", "--num-workers", "0"),
    *("--log-format", "simple", "--log-interval", "1", "--no-epoch-checkpoints"),
]


def train(run, text, folder, *words, arch="admin_transformer_lm_tiny"):
    command = ["fairseq-train", text, *TRAIN, "--arch", arch, "--save-dir", folder]
    return run(*command, *words)


def perplexity(run, text, checkpoint, *words):
    command = ["fairseq-eval-lm", text, "--path", checkpoint, *SAMPLES, "--cpu"]
    output = run(*command, "--gen-subset", "test", *words)
    return float(re.search(r"Perplexity: ([0-9.]+)", output + output.errors).group(1))


def test_profile_train_resume_measure_and_fold(run, text, tmp_path):
    folder, user_dir = tmp_path / "run", ["--user-dir", "admin_fairseq"]
    log = train(run, text, folder, "--init-type", "adaptive-profiling")
    assert "profile written to" in log and not log.losses()
    profile = json.loads((folder / "profile.json").read_text())
    assert profile["model"]["decoder_layers"] == 2 and "encoder_layers" not in profile["model"]
    assert [entry["stack"] for entry in profile["sublayers"]] == ["decoder"] * 4

    first = train(run, text, folder, "--init-type", "adaptive", "--max-update", "15")
    assert "4 sub-layers set" in first
    (folder / "profile.json").unlink()
    second = train(run, text, folder, "--init-type", "adaptive", "--max-update", "30")
    assert "sub-layers set" not in second
    losses = [float(loss) for loss in first.losses() + second.losses()]
    assert len(losses) == 30 and losses[-1] < losses[0] - 0.3

    checkpoint = folder / "checkpoint_last.pt"
    measured = perplexity(run, text, checkpoint, *user_dir)
    assert 1 < measured < 2 ** losses[0]
    cli.main(["fold", str(checkpoint), str(tmp_path / "folded.pt"), "--check"])
    assert perplexity(run, text, tmp_path / "folded.pt") == pytest.approx(measured, abs=0.011)


def test_samples_of_one_sentence_and_what_the_model_goes_on_with(run, text, tmp_path):
    folder = tmp_path / "run"
    words = ("--sample-break-mode", "eos", "--max-update", "3", "--disable-validation")
    assert len(train(run, text, folder, *words).losses()) == 3
    (tmp_path / "prefixes").write_text("z1 z2\n")
    continued = run(
        *("fairseq-interactive", text, "--user-dir", "admin_fairseq", "--max-len-b", "6"),
        *("--task", "language_modeling", "--path", folder / "checkpoint_last.pt", "--cpu"),
        stdin=tmp_path / "prefixes",
    )
    assert re.search(r"^H-0\t\S+\tz1 z2( |$)", continued, re.M)
    hub = AdminTransformerLanguageModel.from_pretrained(
        str(folder), "checkpoint_last.pt", str(text), max_len_b=6
    )
    assert hub.sample("z1 z2", beam=2).startswith("z1 z2")

    pytest.importorskip("ctranslate2", reason="CTranslate2 is an optional extra")
    checkpoint, served = folder / "checkpoint_last.pt", tmp_path / "served"
    run("admin-fairseq", "export", "--to", "ctranslate2", checkpoint, served, "--data", text)
    prompts = [" ".join(f"z{n + i}" for i in range(1 + n % 5)) for n in range(20)]
    (tmp_path / "prompts").write_text("".join(f"{prompt}\n" for prompt in prompts))
    for beam in (1, 4):
        search = ["--beam", beam, "--max-len-b", "8", "--device", "cpu"]
        found = run("admin-fairseq", "generate", served, *search, stdin=tmp_path / "prompts")
        assert found.splitlines() == hub.sample(prompts, beam=beam, max_len_b=8)
    wrong = run("admin-fairseq", "translate", served, status=1)
    assert "a language model; use admin-fairseq generate" in wrong.errors
