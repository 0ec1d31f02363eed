"""Preparing in this process: interruption, broken input, other pieces (scripts: tests/scripts)."""

import gzip
import json
import os
import shutil
import tarfile
import time
from pathlib import Path

import pytest
import sentencepiece

from admin_fairseq import cli
from admin_fairseq.corpora import prepare as module
from admin_fairseq.corpora import steps
from admin_fairseq.corpora.archives import unpack
from admin_fairseq.corpora.prepare import Options, prepare
from admin_fairseq.corpora.prepared import DataFolder, read_prepared
from admin_fairseq.corpora.steps import alone_in
from admin_fairseq.errors import AdminError

from .miniatures import iwslt14, make


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return make("iwslt14_de_en", tmp_path_factory.mktemp("raw"))


@pytest.fixture
def options(raw, tmp_path):
    return {"raw_dir": str(raw), "data_dir": str(tmp_path / "data"), "bpe_size": 200}


@pytest.fixture
def no_binary(monkeypatch):
    """fairseq-preprocess takes seconds; tests/scripts runs it."""

    def binarise(preparation):
        os.makedirs(preparation.folder.at("bin"), exist_ok=True)
        for path in preparation.folder.binary():
            Path(path).touch()

    monkeypatch.setattr(module._Preparation, "_binarise", binarise)


def run(options, **others):
    return prepare(Options("iwslt14_de_en", **{**options, **others}))


def texts(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and p.name != ".lock"}


def test_an_interrupted_run_goes_on_where_it_stopped(
    options, tmp_path, no_binary, monkeypatch, caplog
):
    whole = run({**options, "data_dir": str(tmp_path / "whole")})
    encode, calls = module._encode, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return encode(*args)

    monkeypatch.setattr(module, "_encode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(options)
    data = tmp_path / "data"
    assert not (data / "valid.de").exists() and not (data / "prepared.json").exists()
    assert not list(data.glob(".valid*"))  # nothing half-written either
    monkeypatch.setattr(module, "_encode", encode)
    caplog.set_level("INFO", "admin_fairseq")
    assert run(options) == whole
    assert texts(data) == texts(tmp_path / "whole")
    messages = [record.getMessage() for record in caplog.records]
    assert "words: already done" in messages and "pieces ..." in messages


def test_what_a_killed_run_left_is_cleared(options, tmp_path, no_binary):
    run(options)
    data = tmp_path / "data"
    left, other = data / ".train.de-abcd0123.admin-fairseq", data / ".train.de-20240115"
    for path in (left, other):
        path.write_text("x")
    run(options, bpe_size=100, force=True)
    assert not left.exists() and other.exists()


def test_other_settings_redo_only_what_depends_on_them(options, tmp_path, no_binary, caplog):
    run(options)
    shutil.rmtree(tmp_path / "data" / "bin")
    caplog.set_level("INFO", "admin_fairseq")
    run(options, bpe_size=100)
    messages = [record.getMessage() for record in caplog.records]
    assert "words: already done" in messages
    assert {"learn pieces ...", "pieces ...", "binary ..."} <= set(messages)


def test_other_archives_are_noticed(options, tmp_path, no_binary):
    raw = make("iwslt14_de_en", tmp_path / "mine")
    first = run(options, raw_dir=str(raw))
    iwslt14(raw, pairs=100)
    shutil.rmtree(tmp_path / "data" / "bin")
    assert run(options, raw_dir=str(raw))["pairs"] != first["pairs"]


@pytest.mark.parametrize("where", [(module._Preparation, "_binarise"), (DataFolder, "test")])
def test_a_run_that_changed_its_mind_halfway_is_not_ready(
    options, tmp_path, no_binary, monkeypatch, where
):
    """Done with one setting, killed with another (at the last step, or with all pieces written and
    the step not done), asked for the first again: nothing is mixed."""
    run(options)
    first = texts(tmp_path / "data")
    test = DataFolder.test

    def dies(whose, kind=""):
        if kind == "raw" or (kind == "words" and not has_new_pieces()):
            return test(whose, kind)
        raise KeyboardInterrupt

    def has_new_pieces():
        return (tmp_path / "data" / "train.en").read_bytes() != first["train.en"]

    with monkeypatch.context() as patch:
        patch.setattr(*where, dies)
        with pytest.raises(KeyboardInterrupt):
            run(options, bpe_size=50, force=True)
    assert has_new_pieces()
    run(options)
    assert texts(tmp_path / "data") == first


def test_another_archive_of_the_same_size_is_noticed(options, tmp_path, no_binary, caplog):
    raw = make("iwslt14_de_en", tmp_path / "mine")
    run(options, raw_dir=str(raw))
    os.utime(raw / "de-en.tgz", ns=(1, 1))
    with pytest.raises(AdminError, match=r"other settings \(de-en\.tgz was replaced\)"):
        run(options, raw_dir=str(raw))
    caplog.set_level("INFO", "admin_fairseq")
    run(options, raw_dir=str(raw), force=True)
    assert "unpack de-en.tgz ..." in [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("wanted", [{"separate_dictionaries": True}, {"bpe_size": 100}])
def test_finished_data_are_not_replaced_by_those_of_other_settings(
    options, tmp_path, no_binary, wanted
):
    run(options)
    before = texts(tmp_path / "data")
    with pytest.raises(AdminError, match=r"other settings .*now .*another --data-dir, or use --fo"):
        run(options, **wanted)
    assert texts(tmp_path / "data") == before
    run(options, **wanted, force=True)
    assert texts(tmp_path / "data")["prepared.json"] != before["prepared.json"]


def test_a_folder_called_work_does_not_make_all_others_ours(options, tmp_path, no_binary):
    own = tmp_path / "data" / "bin" / "tool"
    for path in (own, tmp_path / "data" / "work" / "notes"):
        path.parent.mkdir(parents=True)
        path.touch()
    with pytest.raises(AdminError, match="bin: already exists and would be replaced"):
        run(options)
    assert own.exists()


def test_a_missing_archive_leaves_no_folder(options, tmp_path):
    with pytest.raises(AdminError, match=r"de-en\.tgz: missing"):
        run(options, raw_dir=str(tmp_path))
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "name",
    ["bpe.codes", "test.words.en", "test.raw.de", "bin/dict.en.txt", "bin/train.de-en.en.bin"],
)
def test_a_result_that_is_gone_is_made_again(options, tmp_path, no_binary, name):
    run(options)
    before = texts(tmp_path / "data")
    (tmp_path / "data" / name).unlink()
    run(options)
    assert (tmp_path / "data" / name).exists()
    del before["prepared.json"]
    assert before.items() <= texts(tmp_path / "data").items()


def test_a_killed_worker_is_told_in_one_line(options, no_binary, monkeypatch):
    monkeypatch.setattr(module, "_apply_rules", _die)
    with pytest.raises(AdminError, match="a worker was killed"):
        run(options, workers=2)


def _die(*args):
    os._exit(9)


@pytest.mark.parametrize("place", ["/dev/null", "/dev/null/x"])
def test_a_folder_that_cannot_be_is_told_in_one_line(options, place):
    with pytest.raises(AdminError, match=f"{place}: cannot be written"):
        run(options, data_dir=place)


def test_archives_and_work_may_be_deleted_at_the_end(options, tmp_path, no_binary):
    raw = make("iwslt14_de_en", tmp_path / "mine")
    made = run(options, raw_dir=str(raw))
    shutil.rmtree(raw)
    shutil.rmtree(tmp_path / "data" / "work")
    assert run(options, raw_dir=str(raw)) == made


def test_workers_change_nothing(options, tmp_path, no_binary, monkeypatch):
    monkeypatch.setattr("admin_fairseq.corpora.streams.CHUNK", 7)
    run(options)
    run({**options, "data_dir": str(tmp_path / "two")}, workers=2)
    assert texts(tmp_path / "data") == texts(tmp_path / "two")


def test_sentencepiece_splits_the_same_words(options, tmp_path, no_binary):
    made = run(options, bpe="sentencepiece", bpe_size=120)
    assert made["remove_bpe"] == "sentencepiece"
    data = tmp_path / "data"
    model = sentencepiece.SentencePieceProcessor(model_file=str(data / "sentencepiece.model"))
    assert model.get_piece_size() == 120
    pieces = (data / "test.en").read_text(encoding="utf-8").splitlines()
    words = (data / "test.words.en").read_text(encoding="utf-8").splitlines()
    assert [line.replace(" ", "").replace("▁", " ").strip() for line in pieces] == words


def test_sentencepiece_says_what_it_cannot_do(options, tmp_path, no_binary):
    with pytest.raises(AdminError, match="sentencepiece cannot learn 100000 pieces"):
        run(options, bpe="sentencepiece", bpe_size=100_000)
    assert not list((tmp_path / "data").glob("*.model"))


def rewritten(raw, folder, change):
    """A copy of the archive whose members went through ``change(name, content)``."""
    folder.mkdir()
    with tarfile.open(raw / "de-en.tgz") as old, tarfile.open(folder / "de-en.tgz", "w:gz") as new:
        for entry in old:
            content = old.extractfile(entry).read() if entry.isfile() else b""
            changed = change(entry.name, content)
            if changed is not None:
                path = folder / "member"
                path.write_bytes(changed)
                info = tarfile.TarInfo(entry.name)
                info.type, info.size, info.mode = entry.type, len(changed), 0o755
                with path.open("rb") as file:
                    new.addfile(info, file if entry.isfile() else None)
    return folder


def one_line_less(name, content):
    return (
        content[: content.rindex(b"\n", 0, -1) + 1]
        if name.endswith("train.tags.de-en.en")
        else content
    )


def not_utf8(name, content):
    return content.replace("läuft".encode(), "läuft".encode("latin-1"))


def without_a_test_set(name, content):
    return None if "tst2011" in name else content


def empty(name, content):
    return b"" if "train.tags" in name else content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (one_line_less, "train.tags.de-en.de has 168 sentences, .*train.tags.de-en.en has 167"),
        (not_utf8, r"train.tags.de-en.de, line \d+: not UTF-8"),
        (without_a_test_set, "lacks de-en/IWSLT14.TED.tst2011.de-en.de.xml and 1 more member"),
        (empty, "no sentence pair is left for train"),
    ],
)
def test_broken_members_are_told_in_one_line(raw, options, tmp_path, no_binary, change, message):
    broken = rewritten(raw, tmp_path / "broken", change)
    with pytest.raises(AdminError, match=message) as error:
        run(options, raw_dir=str(broken))
    assert "\n" not in str(error.value)
    data = tmp_path / "data"
    assert not (data / "prepared.json").exists() and not (data / "train.de").exists()
    assert not list(data.rglob(".*-*"))


def cut(content):
    return content[: len(content) // 2]


def flipped(content):
    return content[:-6] + bytes([content[-6] ^ 1]) + content[-5:]  # in the check sum


@pytest.mark.parametrize("damage", [cut, flipped, lambda content: b"<html>not found</html>" * 99])
def test_damaged_archives_leave_nothing(raw, options, tmp_path, damage):
    folder = tmp_path / "damaged"
    folder.mkdir()
    (folder / "de-en.tgz").write_bytes(damage((raw / "de-en.tgz").read_bytes()))
    with pytest.raises(AdminError, match="damaged or not a tar archive"):
        run(options, raw_dir=str(folder))
    assert not [p for p in (tmp_path / "data").rglob("*") if p.is_file() and p.name != ".lock"]


def test_a_cut_tar_is_damaged_too(tmp_path):
    raw = make("wmt14_en_fr", tmp_path / "raw")
    path = raw / "training-giga-fren.tar"
    path.write_bytes(path.read_bytes()[:700])
    member = "giga-fren.release2.fixed.en"
    with pytest.raises(AdminError, match="damaged"):
        unpack(str(path), {member: str(tmp_path / "out" / member)})
    assert not list((tmp_path / "out").glob("*"))


def test_two_preparations_keep_out_of_each_others_way(options, no_binary, monkeypatch):
    monkeypatch.setattr(steps, "PATIENCE", 0.2)
    with alone_in(options["data_dir"]), pytest.raises(AdminError, match="prepare is running"):
        run(options)


def test_what_a_killed_preparation_started_is_waited_for(options, no_binary):
    """Processes inherit its lock, and end a moment later than it does."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            with alone_in(options["data_dir"]):
                os.write(write_end, b"!")
                time.sleep(0.5)
        finally:
            os._exit(0)
    assert os.read(read_end, 1) == b"!"
    assert run(options)["pairs"]
    os.waitpid(pid, 0)


@pytest.mark.parametrize(
    ("make", "message"), [(os.mkfifo, "not a regular file"), (os.mkdir, "Is a directory")]
)
def test_a_lock_that_is_no_file(options, tmp_path, make, message):
    (tmp_path / "data").mkdir()
    make(tmp_path / "data" / ".lock")
    with pytest.raises(AdminError, match=rf"data/\.lock: cannot be locked: {message}$"):
        run(options)


def test_a_lock_that_is_a_link_is_not_followed(options, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AdminError, match="cannot be locked"):
        run(options)
    assert not (tmp_path / "elsewhere").exists()


NEEDED = {"dataset": "iwslt14_de_en", "target": "en", "lowercase": True}


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "[" * 100_000,
        '{"dataset": NaN, "target": "en", "lowercase": true}',
        *(
            json.dumps({**NEEDED, **wrong})
            for wrong in (
                {"dataset": [1]},
                {"target": 5},
                {"target": "x/../../secret"},
                {"target": ".."},
                {"target": "en\n"},
                {"lowercase": "x"},
                {"archives": {"de-en.tgz": "x"}},
                {"pairs": {"train": "many"}},
            )
        ),
    ],
)
def test_damaged_record(tmp_path, content):
    (tmp_path / "prepared.json").write_text(content)
    with pytest.raises(AdminError, match=r"prepared\.json: not .* damaged.*; delete it"):
        read_prepared(str(tmp_path))


def test_a_record_without_all_that_a_run_writes_is_made_anew(options, tmp_path, no_binary):
    made = run(options)
    path = tmp_path / "data" / "prepared.json"
    path.write_text(json.dumps({name: made[name] for name in made if name != "archives"}))
    assert run(options) == made


@pytest.mark.parametrize("content", [b"[" * 100_000, bytes(range(256)), b"", b"7"])
def test_a_damaged_mark_means_not_done(options, tmp_path, no_binary, caplog, content):
    made = run(options)
    (tmp_path / "data" / "prepared.json").unlink()
    (tmp_path / "data" / "work" / "words.done").write_bytes(content)
    caplog.set_level("INFO", "admin_fairseq")
    assert run(options) == made
    assert "words ..." in [record.getMessage() for record in caplog.records]


def test_a_mark_that_is_a_folder(options, tmp_path, no_binary):
    (tmp_path / "data" / "work" / "words.done").mkdir(parents=True)
    with pytest.raises(AdminError, match=r"words\.done: cannot be removed"):
        run(options)


@pytest.mark.parametrize(
    "words", [("--workers", "1000000"), ("--bpe-size", "1000000000000"), ("--workers", "9" * 5000)]
)
def test_numbers_have_upper_bounds(tmp_path, words):
    with pytest.raises(SystemExit, match=f"{words[0]}: .* is not a whole number from 1 to"):
        cli.main(["prepare", "iwslt14_de_en", "--data-dir", str(tmp_path / "data"), *words])
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("failure", "reason"), [("fail", "no room"), ("fail_silently", "AssertionError")]
)
def test_fairseqs_own_failure_is_one_line(options, tmp_path, monkeypatch, failure, reason):
    monkeypatch.setattr(module, "_preprocess", globals()[failure])
    with pytest.raises(AdminError, match=f"fairseq-preprocess failed: {reason}$"):
        run(options)
    assert not (tmp_path / "data" / "bin").exists()


def fail(words):
    raise OSError("no room")


def fail_silently(words):
    raise AssertionError


def test_nothing_of_the_working_directory_runs(options, tmp_path, monkeypatch, capfd):
    hostile = tmp_path / "here"
    hostile.mkdir()
    for name in ("numpy", "fairseq", "fairseq_cli", "pickle"):
        (hostile / f"{name}.py").write_text("open('ran', 'w')\nraise SystemExit\n")
    monkeypatch.chdir(hostile)
    run(options)
    assert not (hostile / "ran").exists()
    binary = {path.name for path in (tmp_path / "data" / "bin").iterdir()}
    assert {"dict.de.txt", "train.de-en.en.idx", "preprocess.log"} <= binary
    assert (tmp_path / "data" / "bin" / "preprocess.log").stat().st_size
    assert "Namespace" not in "".join(capfd.readouterr())


def test_command_prints_the_counts(options, tmp_path, no_binary, capsys):
    words = ["--raw-dir", options["raw_dir"], "--data-dir", options["data_dir"]]
    cli.main(["prepare", "iwslt14_de_en", *words, "--bpe-size", "200", "--workers", "1"])
    output = capsys.readouterr().out
    made = json.loads((tmp_path / "data" / "prepared.json").read_text())
    assert (
        output
        == f"{options['data_dir']}/bin is ready: "
        + ", ".join(f"{made['pairs'][split]:,} {split}" for split in ("train", "valid", "test"))
        + " pairs\n"
    )


def test_gzip_check_sum_is_read(raw):
    """What ``flipped`` relies on: the sum is there, 8 bytes before the end."""
    content = (raw / "de-en.tgz").read_bytes()
    with pytest.raises(gzip.BadGzipFile):
        gzip.decompress(flipped(content))
