"""From the archives of the miniatures to a table, by the scripts; what prepare.sh makes is held
line by line against the published steps computed a second time.
"""

import json

import pytest

from tests.corpora.miniatures import MAKERS, make
from tests.corpora.published import PUBLISHED

from .conftest import finish

MERGES = 200
SIZES = {"embed-dim": 16, "ffn-embed-dim": 16, "attention-heads": 2}
SMALL = [
    *(
        f"--{stack}-{name}={size}"
        for stack in ("encoder", "decoder")
        for name, size in SIZES.items()
    ),
    *("--num-workers", "0", "--log-interval", "1", "--max-tokens", "1000"),
    *("--required-batch-size-multiple", "1"),  # with 8, fairseq-fixed finds no batch in seven pairs
]


@pytest.fixture(scope="module")
def prepared(start, tmp_path_factory):
    """Folder with raw/DATASET and data/DATASET for every data set, as prepare.sh left them."""
    folder = tmp_path_factory.mktemp("with a space")
    started = []
    for dataset in MAKERS:
        raw = make(dataset, folder / "raw" / dataset)
        words = ["--raw-dir", raw, "--data-dir", folder / "data" / dataset]
        words += ["--bpe-size", MERGES, "--workers", 1 + (dataset == "wmt14_en_fr")]
        started.append(start(f"{dataset}/prepare.sh", *words, cwd=folder))
    for process in started:
        finish(process)
    return folder


@pytest.mark.parametrize("dataset", MAKERS)
def test_every_line_is_as_published(prepared, dataset):
    folder = prepared / "data" / dataset
    split, words, raw = PUBLISHED[dataset](prepared / "raw" / dataset, MERGES)
    made = json.loads((folder / "prepared.json").read_text())
    languages = made["source"], made["target"]
    for name, both in split.items():
        assert both[0], f"the miniature leaves nothing for {name}"
        for language, expected in zip(languages, both):
            assert (folder / f"{name}.{language}").read_bytes().decode().split("\n")[
                :-1
            ] == expected
    for kind, both in (("words", words), ("raw", raw)):
        for language, expected in zip(languages, both):
            path = folder / f"test.{kind}.{language}"
            assert path.read_bytes().decode().split("\n")[:-1] == expected
    assert made["pairs"] == {name: len(both[0]) for name, both in split.items()}


@pytest.mark.parametrize("dataset", MAKERS)
def test_dictionary_is_joined_and_holds_every_piece(prepared, dataset):
    folder = prepared / "data" / dataset
    first, second = sorted((folder / "bin").glob("dict.*.txt"))
    assert first.read_bytes() == second.read_bytes()
    known = {line.split(" ")[0] for line in first.read_text(encoding="utf-8").splitlines()}
    made = json.loads((folder / "prepared.json").read_text())
    for language in (made["source"], made["target"]):
        text = (folder / f"train.{language}").read_text(encoding="utf-8")
        assert set(text.split()) <= known


def test_a_second_time_does_nothing(start, prepared):
    def times():
        return {p: p.stat().st_mtime_ns for p in prepared.rglob("*") if p.name != ".lock"}

    before = times()
    output, errors = finish(
        start(
            "iwslt14_de_en/prepare.sh",
            *("--raw-dir", prepared / "raw" / "iwslt14_de_en"),
            *("--data-dir", prepared / "data" / "iwslt14_de_en", "--bpe-size", MERGES),
            cwd=prepared,
        )
    )
    assert "is ready" in output
    assert "..." not in errors  # no step began
    assert times() == before


def test_missing_archives_are_told_in_one_line(start, prepared):
    _, errors = finish(
        start(
            "wmt14_en_fr/prepare.sh",
            *("--raw-dir", prepared / "nowhere", "--data-dir", prepared / "new"),
            cwd=prepared,
            cold=True,
        ),
        status=1,
    )
    line = errors.strip().splitlines()[-1]
    assert line.startswith("admin-fairseq: error: ") and "europarl-v7.tgz: missing" in line
    assert "https://www.statmt.org/" in line and "Traceback" not in errors


@pytest.mark.slow
def test_profile_train_resume_evaluate_and_table(start, prepared):
    """From the prepared miniature to a table with the published number beside ours."""
    places = ["--data-dir", prepared / "data" / "iwslt14_de_en", "--save-dir", prepared / "runs"]
    run = [*places, "--cpu", "--encoder-layers", "2", "--decoder-layers", "1", "--seeds", "1111"]
    train = ["iwslt14_de_en/train.sh", *run, "--"]
    folder = prepared / "runs" / "admin-2l-1l-seed1111"
    output, _ = finish(start(*train, *SMALL, "--max-epoch", "1", cwd=prepared))
    assert "sub-layers set" in output
    profile = (folder / "profile.json").read_bytes()
    output, _ = finish(start(*train, *SMALL, "--max-epoch", "2", cwd=prepared))
    assert "Loaded checkpoint" in output and "(epoch 2 @" in output
    assert (folder / "profile.json").read_bytes() == profile
    words = [*run, "--average", "2", "--beam", "2", "--lenpen", "0.7", "--", "--num-workers", "0"]
    output, _ = finish(start("iwslt14_de_en/evaluate.sh", *words, cwd=prepared))
    result = json.loads((folder / "evaluation.json").read_text())
    assert result["dataset"] == "iwslt14_de_en" and result["averaged"] == 2
    assert set(result["bleu"]) == {"tokenised", "compound split", "detokenised"}
    assert "case:lc" in result["bleu"]["detokenised"]["signature"]
    made = json.loads((prepared / "data" / "iwslt14_de_en" / "prepared.json").read_text())
    assert (folder / "test.hyp").read_bytes().count(b"\n") == made["pairs"]["test"]
    assert "2L-1L" in output and "tok:13a" in output
