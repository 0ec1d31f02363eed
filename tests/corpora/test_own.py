"""Text of one's own as a data set: checks, held-out pairs, the same steps and marks."""

import gzip
import json
import random
from collections import Counter

import pytest
from fairseq.data import Dictionary

from admin_fairseq import cli
from admin_fairseq.corpora import own
from admin_fairseq.corpora import prepare as module
from admin_fairseq.corpora.prepared import read_prepared
from admin_fairseq.pieces import load, vocabulary

from .test_prepare import no_binary  # noqa: F401  a fixture

PAIRS = 300


def sentences(count=PAIRS, seed=1):
    draw = random.Random(seed)
    words = [
        ["".join(draw.choices("abcdefgh", k=draw.randint(2, 6))) for _ in range(60)] for _ in "ab"
    ]
    chosen = [draw.choices(range(60), k=draw.randint(3, 9)) for _ in range(count)]
    return [[" ".join(side[i] for i in line) for line in chosen] for side in words]


def write(prefix, both, end="\n"):
    for language, lines in zip(("de", "en"), both):
        content = "".join(f"{line}{end}" for line in lines).encode()
        prefix.with_name(f"{prefix.name}.{language}").write_bytes(content)
    return str(prefix)


def prepare(folder, *words):
    words = ["--source", "de", "--target", "en", "--bpe-size", "60", "--workers", "1", *words]
    cli.main(["prepare", *words, "--data-dir", str(folder / "data set")])
    return folder / "data set"


def lines(path):
    return path.read_text(encoding="utf-8").splitlines()


def test_pairs_are_held_out_before_anything_is_learned(tmp_path, no_binary, capsys):  # noqa: F811
    both = sentences()
    data = prepare(tmp_path, "--text", write(tmp_path / "my", both))
    printed, errors = capsys.readouterr()
    assert "288 train, 6 valid, 6 test pairs" in printed
    assert "valid: 6 of 300 pairs are held out" in errors
    decode = load(str(data / "sentencepiece.model")).decode
    parts = {
        split: list(
            zip(*([decode(s.split()) for s in lines(data / f"{split}.{x}")] for x in ("de", "en")))
        )
        for split in ("train", "valid", "test")
    }
    pairs = list(zip(*both))
    drawn = own.held_out(["valid", "test"], len(pairs))
    for split in ("valid", "test"):
        assert parts[split] == [pairs[i - 1] for i in sorted(drawn) if drawn[i] == split]
    assert sorted(pair for part in parts.values() for pair in part) == sorted(pairs)
    assert list(zip(lines(data / "test.raw.de"), lines(data / "test.raw.en"))) == parts["test"]
    made = read_prepared(str(data))
    assert (made["dataset"], made["remove_bpe"], made["tokenised"]) == (
        "dataset",
        "sentencepiece",
        False,
    )


@pytest.mark.parametrize("words", [[], ["--separate-dictionaries"]])
def test_dictionaries_have_every_piece_of_the_model(words, tmp_path, monkeypatch):
    """Also those that the training text, split into pieces, happens to lack: here j, k and l, which
    occur in the word jkl only."""
    both = [["jkl jkl jkl " * 3 + line for line in side] for side in sentences()]
    called = []

    def here(work, *args):
        called.append(args) if work is module._preprocess else work(*args)

    monkeypatch.setattr(module, "apart", here)
    data = prepare(tmp_path, "--text", write(tmp_path / "my", both), *words)
    (options,) = called[0]
    names = ["dict.de.txt", "dict.en.txt"] if words else ["dict.de.txt"]
    given = [word.partition("=")[2] for word in options if word.startswith(("--srcd", "--tgtd"))]
    assert given == [str(data / "work" / name) for name in names]
    assert ("--joined-dictionary" in options) == (not words)
    model = vocabulary(str(data / "sentencepiece.model"))
    assert set("jkl") <= set(model) and not {"<s>", "</s>", "<unk>"} & set(model)
    for path in given:
        dictionary = Dictionary.load(path)
        assert len(dictionary) % 8 == 0
        counts = dict(zip(dictionary.symbols, dictionary.count))
        assert set(model) <= set(counts) and counts["k"] == 0
        lacking = [piece for piece in counts if counts[piece] == 0 and "madeup" not in piece]
        assert lacking == [piece for piece in model if piece in lacking]
        ending = [*lacking, *(f"madeupword{n:04d}" for n in range(8))]
        appended = dictionary.symbols[dictionary.symbols.index(lacking[0]) :]
        assert appended == ending[: len(appended)]


def test_given_sets_are_kept_line_by_line(tmp_path, no_binary):  # noqa: F811
    train, valid, test = (sentences(n, seed) for n, seed in ((60, 1), (9, 2), (8, 3)))
    train[0][5], test[1][2] = "", "  "
    prefixes = [
        write(tmp_path / name, both) for name, both in (("t", train), ("v", valid), ("e", test))
    ]
    words = zip(("--text", "--valid", "--test"), prefixes)
    data = prepare(tmp_path, *(word for pair in words for word in pair))
    assert read_prepared(str(data))["pairs"] == {"train": 59, "valid": 9, "test": 8}
    assert lines(data / "test.raw.de") == test[0] and lines(data / "test.raw.en") == test[1]


def test_a_second_time_does_nothing_and_changed_text_everything(tmp_path, no_binary, capsys):  # noqa: F811
    text = write(tmp_path / "my", sentences())
    prepare(tmp_path, "--text", text)
    capsys.readouterr()
    prepare(tmp_path, "--text", text)
    assert capsys.readouterr().err.strip().endswith("is ready")
    write(tmp_path / "my", sentences(seed=2))
    prepare(tmp_path, "--text", text, "--force")
    assert "words ..." in capsys.readouterr().err


def test_what_is_held_out_is_drawn_and_no_more_than_some_thousand():
    for pairs, each in ((100, 2), (29_000, 580), (100_001, 2000), (4_500_000, 2000)):
        drawn = own.held_out(["valid", "test"], pairs)
        assert drawn == own.held_out(["valid", "test"], pairs)
        assert Counter(drawn.values()) == {"valid": each, "test": each}
        assert set(drawn) <= set(range(1, pairs + 1))
    odd = sum(number % 2 for number in own.held_out(["test"], 100_000))
    assert 900 < odd < 1100  # of a text that alternates, both kinds
    assert own.held_out([], 3) == {}


@pytest.mark.usefixtures("no_binary")
@pytest.mark.parametrize(
    ("words", "seed", "message"),
    [
        (["--bpe-size", "50"], 1, r"bpe {.*}, now {.*'size': 50}"),
        (["--separate-dictionaries"], 1, "joined_dictionary True, now False"),
        ([], 2, "other text or rules, or its files were moved or changed"),
    ],
)
def test_finished_data_are_replaced_only_by_force(words, seed, message, tmp_path, capsys):
    text = write(tmp_path / "my", sentences())
    data = prepare(tmp_path, "--text", text)
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    if seed > 1:
        write(tmp_path / "my", sentences(seed=seed))
    with pytest.raises(
        SystemExit, match=rf"data set: was prepared with other .*{message}.*--force"
    ):
        prepare(tmp_path, "--text", text, *words)
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before
    prepare(tmp_path, "--text", text, *words, "--force")
    capsys.readouterr()
    prepare(tmp_path, "--text", text, *words)
    assert capsys.readouterr().err.strip().endswith("is ready")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: (p / "my.de").unlink(), r"my\.de: no such file; give --text"),
        (lambda p: (p / "my.en").write_text(""), r"my\.en: empty"),
        (lambda p: write(p / "my", [[], []]), r"my\.de: empty"),
        (
            lambda p: write(p / "my", [["x"] * 300, ["x"] * 299]),
            r"300 sentences, .* 299; they must",
        ),
        (lambda p: (p / "my.de").write_bytes(b"\xff\xfea\n" * 300), r"my\.de, line 1: not UTF-8"),
        (
            lambda p: (p / "my.de").write_text("\ufeffx\n" * 300, encoding="utf-8"),
            r"my\.de: begins with a byte order mark; remove it with: sed",
        ),
        (lambda p: write(p / "my", sentences(), "\r\n"), r"my\.de, line 1: has a Windows line end"),
        (lambda p: write(p / "my", sentences(99)), r"99 pairs are too few to hold some out"),
    ],
)
def test_what_is_wrong_with_a_text_is_told_in_one_line(tmp_path, no_binary, spoil, message):  # noqa: F811
    text = write(tmp_path / "my", sentences())
    spoil(tmp_path)
    with pytest.raises(SystemExit, match=message):
        prepare(tmp_path, "--text", text)
    assert not (tmp_path / "data set").exists()


def test_pieces_that_a_text_does_not_give(tmp_path, no_binary):  # noqa: F811
    text = write(tmp_path / "my", [["a b c"] * 200] * 2)
    said = r"--bpe-size: sentencepiece cannot learn 60 pieces: Vocabulary size too high .* <= \d+"
    with pytest.raises(SystemExit, match=said):
        prepare(tmp_path, "--text", text)


def test_a_missing_text_leaves_no_folder(tmp_path):
    with pytest.raises(SystemExit, match=r"my\.de: no such file"):
        prepare(tmp_path, "--text", str(tmp_path / "my"))
    assert not list(tmp_path.iterdir())


def test_text_is_never_written_over(tmp_path, no_binary):  # noqa: F811
    (tmp_path / "data set").mkdir()
    text = write(tmp_path / "data set" / "train", sentences())
    with pytest.raises(SystemExit, match="lies in --data-dir"):
        prepare(tmp_path, "--text", text)
    assert lines(tmp_path / "data set" / "train.de") == sentences()[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a data set, or your own text: --text PREFIX"),
        (["--text", "x"], "name a data set, or your own text"),
        (["iwslt14_de_en", "--text", "x"], "iwslt14_de_en has its own text"),
        (["--text", "x", "--source", "de", "--target", "de"], "give two different languages"),
        (["--text", "x", "--source", "de", "--target", "../en"], "give two different languages"),
        (["--text", "x", "--source", "de", "--target", "en", "--mirror", "x"], "for published"),
    ],
)
def test_contradictory_options_are_told_in_one_line(tmp_path, words, message):
    with pytest.raises(SystemExit, match=message):
        cli.main(["prepare", *words, "--data-dir", str(tmp_path / "data")])
    assert not (tmp_path / "data").exists()


def test_score_compares_text_as_it_is(tmp_path, no_binary, capsys):  # noqa: F811
    data = prepare(tmp_path, "--text", write(tmp_path / "my", sentences()))
    found = [f"H-{i}\t-0.5\t{line}" for i, line in enumerate(lines(data / "test.raw.en"))]
    (tmp_path / "out").write_text("\n".join(reversed(found)) + "\n")
    output = tmp_path / "evaluation.json"
    cli.main(["score", str(tmp_path / "out"), "--data-dir", str(data), "--output", str(output)])
    assert "detokenised: 100.00" in capsys.readouterr().out
    assert list(json.loads(output.read_text())["bleu"]) == ["detokenised"]


@pytest.mark.parametrize("name", ["bin", "train.de", "test.raw.en", "sentencepiece.model"])
def test_what_others_made_is_not_replaced(name, tmp_path, no_binary):  # noqa: F811
    text = write(tmp_path / "my", sentences())
    place = tmp_path / "data set" / name
    place.parent.mkdir()
    place.mkdir() if name == "bin" else place.write_text("mine")
    with pytest.raises(SystemExit, match=rf"{place}: already exists .*choose another --data-dir"):
        prepare(tmp_path, "--text", text)
    assert {entry.name for entry in place.parent.iterdir()} == {name}


def test_a_name_that_cannot_be_recorded_is_refused(tmp_path, no_binary):  # noqa: F811
    with pytest.raises(SystemExit, match=r"its name is not UTF-8"):
        prepare(tmp_path, "--text", write(tmp_path / "b\udcffd", sentences()))
    with pytest.raises(SystemExit, match=r"\.de: no such file"):
        prepare(tmp_path, "--text", write(tmp_path / "my", sentences()), "--valid", "")


@pytest.fixture
def multi30k(tmp_path):
    """The files of its repository, in small."""
    raw = tmp_path / "raw"
    raw.mkdir()
    for seed, split in enumerate(("train", "val", "test_2016_flickr")):
        for language, side in zip(("de", "en"), sentences(40, seed)):
            content = "".join(f"{line}\n" for line in side).encode()
            (raw / f"{split}.{language}.gz").write_bytes(gzip.compress(content))
    return raw


def prepare_multi30k(folder, *words):
    words = [*words, "--bpe-size", "60", "--workers", "1", "--data-dir", str(folder / "data")]
    cli.main(["prepare", "multi30k", *map(str, words)])
    return folder / "data"


def test_multi30k_is_text_in_compressed_files(multi30k, tmp_path, no_binary, capsys):  # noqa: F811
    data = prepare_multi30k(tmp_path, "--raw-dir", multi30k)
    assert "40 train, 40 valid, 40 test pairs" in capsys.readouterr().out
    assert lines(data / "test.raw.en") == sentences(40, 2)[1]
    assert read_prepared(str(data))["dataset"] == "multi30k"
    prepare_multi30k(tmp_path, "--raw-dir", multi30k)
    assert "is ready" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda path: path.unlink(), r"val\.en\.gz: no such file; set --raw-dir to the folder"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), r"val\.en\.gz: damaged"),
        (lambda path: path.write_text("some text"), r"val\.en\.gz: damaged"),
        (
            lambda path: path.write_bytes(gzip.compress(b"one line\n")),
            r"val\.en\.gz has 1; they must be|1 sentences; they must be",
        ),
    ],
)
def test_what_is_wrong_with_multi30k_is_told(break_it, message, multi30k, tmp_path):
    break_it(multi30k / "val.en.gz")
    with pytest.raises(SystemExit, match=message):
        prepare_multi30k(tmp_path, "--raw-dir", multi30k)
    with pytest.raises(SystemExit, match="multi30k is not downloaded"):
        prepare_multi30k(tmp_path)
