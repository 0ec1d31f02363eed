"""The four prepare.sh, held line by line against the published steps computed a second time."""

import json

import pytest

from tests.corpora.miniatures import MAKERS
from tests.corpora.published import PUBLISHED

from .conftest import MERGES, finish, start


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


def test_a_second_time_does_nothing(prepared):
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


def test_missing_archives_are_told_in_one_line(prepared):
    _, errors = finish(
        start(
            "wmt14_en_fr/prepare.sh",
            *("--raw-dir", prepared / "nowhere", "--data-dir", prepared / "new"),
            cwd=prepared,
        ),
        status=1,
    )
    line = errors.strip().splitlines()[-1]
    assert line.startswith("admin-fairseq: error: ") and "europarl-v7.tgz: missing" in line
    assert "https://www.statmt.org/" in line and "Traceback" not in errors
