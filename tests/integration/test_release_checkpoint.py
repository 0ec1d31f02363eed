"""A checkpoint that the original release made, and its own translations of a test set."""

import gzip
import math

import pytest

from .conftest import PAIR
from .shims import ROOT

RELEASE = ROOT.parent / "shared" / "data" / "release_checkpoint"


@pytest.mark.slow
@pytest.mark.skipif(not RELEASE.is_dir(), reason="needs the release's checkpoint in ../shared/data")
def test_the_releases_translations_come_back(run, tmp_path):
    for lang in ("de", "en"):
        text = gzip.decompress((RELEASE / f"test.sp.{lang}.gz").read_bytes())
        (tmp_path / f"test.{lang}").write_bytes(text)
    data, ours = tmp_path / "bin", tmp_path / "ours.pt"
    dictionaries = ["--srcdict", RELEASE / "dict.txt", "--tgtdict", RELEASE / "dict.txt"]
    prefix = ["--testpref", tmp_path / "test", "--destdir", data]
    run("fairseq-preprocess", *PAIR, *dictionaries, *prefix)
    run("admin-fairseq", "import-release", RELEASE / "checkpoint.pt", ours, "--data", data)
    search = ["--beam", "4", "--remove-bpe", "sentencepiece", "--max-len-b", "200"]
    output = run.generate(data, ours, "--user-dir", "admin_fairseq", *search)

    found = {}
    for line in output.hypotheses():
        number, score, text = line[2:].split("\t")
        found[int(number)] = float(score) * math.log(2), text  # fairseq prints base 2
    lines = gzip.decompress((RELEASE / "hypotheses.tsv.gz").read_bytes()).decode().splitlines()
    expected = [line.split("\t") for line in lines]
    assert len(found) == len(expected) == 1000
    for number, score, text in expected:
        assert found[int(number)][1] == text
        assert found[int(number)][0] == pytest.approx(float(score), abs=1e-4)
