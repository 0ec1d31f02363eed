"""Pretrained embeddings: their file is needed where a run starts afresh, and never again."""

import pytest


@pytest.fixture
def vectors(data, tmp_path):
    words = [line.split()[0] for line in (data / "dict.de.txt").read_text().splitlines()]
    path = tmp_path / "words.vec"
    path.write_text(f"{len(words)} 64\n" + "".join(f"{w}{' 0.1' * 64}\n" for w in words))
    return path


def test_resuming_and_generating_need_no_file(vectors, run, data, tmp_path):
    words = ["--encoder-embed-path", vectors, "--init-type"]
    folder = tmp_path / "run"
    first = run.train(data, folder, *words, "tfixup", "--max-update", 2)
    assert "encoder.embed_tokens: 8" in first
    vectors.unlink()
    second = run.train(data, folder, *words, "tfixup", "--max-update", 4)
    assert len(second.losses()) == 2 and "embed_tokens: " not in second
    last = folder / "checkpoint_last.pt"
    translated = run.generate(data, last, "--user-dir", "admin_fairseq")
    assert len(translated.hypotheses()) == 10
    for arch in ("tfixup", "adaptive-profiling"):
        afresh = tmp_path / "other" if arch == "tfixup" else folder
        refused = run.train(data, afresh, *words, arch, "--max-update", 4, status=1)
        (line,) = refused.errors.strip().splitlines()
        assert line.startswith("admin-fairseq: error: ") and str(vectors) in line
