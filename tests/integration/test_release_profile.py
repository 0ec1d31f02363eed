"""ω of the Multi30k configuration against those that the original release measured."""

import gzip
import json

import pytest

from .conftest import PAIR
from .shims import ROOT

MULTI30K = ROOT.parent / "shared" / "data" / "multi30k"
ENCODER = "1.0 1.5438 1.7639 1.8203 2.0130 2.0642 2.2324 2.2853 2.4290 2.4794 2.6091 2.6611"
DECODER = (
    "1.0 1.5980 1.6802 1.8708 1.9559 2.0227 2.1835 2.2605 2.3287 2.4646 2.5379 2.5890 "
    "2.7174 2.7858 2.8387 2.9594 3.0271 3.0744"
)


@pytest.mark.slow
@pytest.mark.skipif(not MULTI30K.is_dir(), reason="needs Multi30k in ../shared/data")
def test_omegas_are_within_five_percent_of_the_releases(run, tmp_path):
    """6L-6L d=512, sentencepiece BPE 8000 joined, 4096 tokens, one batch."""
    for split in ("train", "val"):
        for lang in ("de", "en"):
            text = gzip.decompress((MULTI30K / f"{split}.{lang}.gz").read_bytes())
            (tmp_path / f"{split}.{lang}").write_bytes(text)
    subwords, model = ROOT / "scripts" / "subwords.py", tmp_path / "sp.model"
    texts = [tmp_path / "train.de", tmp_path / "train.en"]
    run(subwords, "train", *texts, "--model", model, "--vocab-size", 8000)
    for lang in ("de", "en"):
        pieces = run(subwords, "encode", "--model", model, stdin=tmp_path / f"train.{lang}")
        (tmp_path / f"sp.{lang}").write_text(pieces, encoding="utf-8")
    data = tmp_path / "bin"
    joined = ["--trainpref", tmp_path / "sp", "--joined-dictionary", "--destdir", data]
    run("fairseq-preprocess", *PAIR, *joined)
    run(
        *("fairseq-train", data, "--user-dir", "admin_fairseq", "--cpu", *PAIR),
        *("--arch", "admin_transformer_iwslt_de_en", "--init-type", "adaptive-profiling"),
        *("--dropout", "0.3", "--attention-dropout", "0.1", "--activation-dropout", "0.1"),
        *("--max-tokens", "4096", "--seed", "1111", "--optimizer", "radam", "--lr", "7e-4"),
        *("--num-workers", "0", "--save-dir", tmp_path / "run"),
    )
    profile = json.loads((tmp_path / "run" / "profile.json").read_text())
    omegas = [entry["omega"] for entry in profile["sublayers"]]
    assert omegas == pytest.approx([float(w) for w in (ENCODER + " " + DECODER).split()], rel=0.05)
