import json
import math
import os

import numpy as np
import pytest
import torch
from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder

from admin_fairseq.errors import AdminError
from admin_fairseq.results import binarised, table
from admin_fairseq.results.binarised import unigram_bits
from admin_fairseq.results.evaluation import Evaluation
from admin_fairseq.results.logs import parse
from admin_fairseq.results.runs import VERDICTS, Run, find_runs, read_run
from admin_fairseq.results.table import FORMATS
from admin_fairseq.schemes import SCHEMES

from .conftest import DONE, config_line, log_of, train_line, valid_line


def run_of(log):
    return Run("folder", parse(log.splitlines(keepends=True)))


def write_binarised(folder, sentences, dtype=np.uint16):
    folder.mkdir(parents=True)
    path = str(folder / "train.de-en.en")
    builder = MMapIndexedDatasetBuilder(f"{path}.bin", dtype=dtype)
    for sentence in sentences:
        builder.add_item(torch.tensor(sentence))
    builder.finalize(f"{path}.idx")
    return path


@pytest.mark.parametrize(
    ("arch", "init_type", "before", "scheme"),
    [
        *[
            ("admin_transformer", word, "", "admin")
            for word in ("None", "adaptive", "adaptive-auto")
        ],
        ("postln_transformer_tiny", "None", "", "postln"),
        ("preln_transformer", "default", "", "preln"),
        ("postln_transformer", "None", "decoder", "postln-preln"),
        ("tfixup_transformer_iwslt_de_en", "None", "", "tfixup"),
        ("admin_transformer", "admin-torch", "", "admin-torch"),
        ("transformer_iwslt_de_en", "None", "", "postln"),
        ("transformer_wmt_en_de", "None", "encoder decoder", "preln"),
        ("preln_transformer", "adaptive", "", "admin"),  # refused when its model was built
    ],
)
def test_scheme(arch, init_type, before, scheme):
    log = log_of(arch=arch, init_type=init_type)
    for stack in before.split():
        log = log.replace(f"{stack}_normalize_before': False", f"{stack}_normalize_before': True")
    assert run_of(log).scheme == scheme


def test_every_scheme_has_a_name():
    names = {run_of(log_of(init_type=name)).scheme for name in SCHEMES}
    assert {"admin", "postln", "deepnet", "admin-torch"} < names
    assert not names & {"adaptive", "default", "?"}


def test_depth():
    assert run_of(log_of(layers=18)).depth == "18L-18L"
    assert run_of(log_of(layers=None)).depths == (6, 6)
    model = log_of(arch="admin_transformer_lm_gpt", layers=None).replace("'encoder_", "'x_")
    assert run_of(model).depth == "12L"
    assert run_of("").name == ("?", "?", "?")


@pytest.mark.parametrize(
    ("data", "dataset"),
    [
        ("/a/wmt14_en_de/joined/bin:/b/c", "wmt14_en_de"),
        ("/a/multi30k/lm-bin/", "multi30k"),
        ("corpus/mine/bin", "mine"),
        ("corpus/mine", "mine"),
        ("bin", "?"),
    ],
)
def test_dataset(data, dataset):
    run = run_of(log_of(data=data))
    assert run.dataset == dataset
    run.evaluation = Evaluation("its own")
    assert run.dataset == "its own"


def test_settings_have_no_places():
    one, two = (run_of(log_of(seed=seed, data=f"/{seed}/mine/bin")) for seed in (1, 2))
    assert one.settings == two.settings
    assert one.settings["optimization.lr"] == "0.001"
    assert run_of(log_of(lr=0.5)).settings != one.settings


OVERFLOW = "FloatingPointError: Minimum loss scale reached (0.0001).\n"


@pytest.mark.parametrize(
    ("log", "verdict"),
    [
        (log_of(), ""),
        (log_of([12.5, 8.0, 12.6]), "diverged"),
        (log_of([12.5, 8.0, math.nan]), "diverged"),
        (log_of([12.5, 8.0, math.inf]), "diverged"),
        (log_of(valid=[math.nan]), "diverged"),
        (log_of([12.5, 8.0]) + OVERFLOW, "diverged"),
        (config_line() + OVERFLOW, "diverged"),
        (config_line(), "failed"),
        ("", "unreadable"),
        ("no log at all\n", "unreadable"),
        (config_line() + valid_line(9, 5.0), "unreadable"),
        (config_line() + DONE, "unreadable"),
        (config_line(init_type="adaptive-profiling"), "profile only"),
        (config_line(init_type="adaptive-profiling") + log_of(), ""),
        (log_of(max_update=200), "unfinished"),
        (log_of(max_update=200) + DONE, ""),
    ],
)
def test_verdict(log, verdict):
    assert run_of(log).verdict == verdict
    assert verdict in {"", *VERDICTS}


def test_stuck_is_less_than_a_bit_below_the_words_frequencies(tmp_path):
    folder = tmp_path / "mine" / "bin"
    write_binarised(folder, np.arange(64).reshape(8, 8))  # 6 bits
    verdicts = [run_of(log_of(valid=[best, 9.0], data=folder)).verdict for best in (4.99, 5.01)]
    assert verdicts == ["", "stuck"]
    swapped = log_of(valid=[5.01], data=folder).replace("lang='de'", "lang='en'", 1)
    assert run_of(swapped).verdict == ""  # no such direction there
    inferred = log_of(valid=[5.01], data=folder).replace("lang='de'", "lang=None", 1)
    assert run_of(inferred).verdict == "stuck"


@pytest.mark.parametrize("dtype", [np.uint16, np.int64])
def test_unigram_entropy_counts_sentence_ends(tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(binarised, "CHUNK", 3)
    path = write_binarised(tmp_path / "bin", [[7, 900, 2], [2]], dtype)  # a, b, </s>, </s>
    assert unigram_bits(path) == pytest.approx(1.5)


def test_runs_are_found_once(make):
    folders = [make("b"), make("a/deep")]
    found = find_runs([folders[0], make.folder, make.folder])
    assert [run.folder for run in found] == folders


def test_profile_and_evaluation_are_read(make, tmp_path):
    from admin_fairseq.profiling.profile import Entry, Profile

    folder = make("a", dataset="x", bleu={"tokenised": {"score": 27.5, "signature": "s"}})
    entries = [Entry("encoder", 0, "ffn", None, None, 1.0)]
    Profile(entries, {}, {"tokens": 820}, {"torch": "2"}).write(f"{folder}/profile.json")
    run = read_run(folder)
    assert run.score("tokenised") == 27.5 and run.score("detokenised") is None
    assert run.profile["packages"] == {"torch": "2"}
    assert run.profile["measurement"] == {"tokens": 820}


WRONG_SCORES = [
    *({}, [], {"score": True}, {"score": "12"}, {"score": -1}, {"score": 10**400}),
    {"score": 1, "signature": [1]},
]


@pytest.mark.parametrize(
    "content",
    [
        *("{", "[]", '{"a":' * 100_000, '{"bleu": null}', '{"dataset": [1]}', '{"averaged": 1.5}'),
        *('{"dataset": "\\ud800"}', json.dumps({"dataset": "n" * 5000})),
        *(json.dumps({"bleu": {"tokenised": score}}) for score in WRONG_SCORES),
    ],
)
def test_damaged_evaluation(make, content):
    folder = make("a")
    with open(f"{folder}/evaluation.json", "w") as file:
        file.write(content)
    with pytest.raises(AdminError, match=r"evaluation\.json: not an evaluation as admin-fairseq"):
        read_run(folder)


@pytest.mark.parametrize("name", ["train.log", "profile.json", "evaluation.json"])
def test_a_fifo_is_refused_at_once(make, name):
    folder = make("a")
    os.rename(f"{folder}/train.log", f"{folder}/kept")
    os.mkfifo(f"{folder}/{name}")
    if name != "train.log":
        os.rename(f"{folder}/kept", f"{folder}/train.log")
    with pytest.raises(AdminError, match=f"{name}: cannot be read: not a regular file"):
        read_run(folder)


WRONG_OPTIONS = {
    "model": [
        *("{1: 2}", "{'_name': [1]}", "{'self': 1}", f"{{'_name': '{'n' * 9999}'}}"),
        "{'_name': 'admin_transformer', 'init_type': [1]}",
        *(f"{{'encoder_layers': {n}}}" for n in ("'many'", "[1]", "{'a': 1}", "-5", "nan")),
        "{'encoder_normalize_before': [1]}",
    ],
    "common": [f"{{'seed': {seed}}}" for seed in ("{'a': 1}", "b'x'", "{1, 2}", "9" * 4000)],
    "task": [f"{{'data': {data}}}" for data in ("[1, 2]", "{'a': 2}", "'/a\\x00b'", "3")],
    "dataset": ["{'valid_subset': 3, 'train_subset': 5}"],
    "optimization": ["{'max_update': 'x', 'max_epoch': [1]}"],
}


@pytest.mark.parametrize(
    ("section", "options"),
    [(name, text) for name, texts in WRONG_OPTIONS.items() for text in texts],
)
def test_options_of_wrong_types_are_those_of_an_unknown_model(section, options):
    start, rest = log_of().split("{", 1)
    wrong = run_of(f"{start}{{'{section}': {options}}}\n" + rest.split("\n", 1)[1])
    assert list(wrong.log.config) == [section]
    rows = table.rows_of([wrong, run_of(log_of())])
    assert all(len(cell) < 300 for line in table.cells(rows) for cell in line)
    assert len(json.loads(FORMATS["json"][1](rows))["rows"]) == len(rows)


DAMAGES = {
    "idx": [b"MMIDIDX\0\0", b"MMIDIDX\0\0" + bytes(8) + b"\x63", b"MMIDIDX\0\0" + bytes(8) + b"\7"],
    "bin": [b"", b"abc", b"\xff" * 4000, np.int32([0x7FFFFFFE]).tobytes()],
}


@pytest.mark.parametrize(
    ("ending", "content"), [(end, content) for end, many in DAMAGES.items() for content in many]
)
def test_damaged_data_are_told(tmp_path, ending, content):
    path = write_binarised(tmp_path / "bin", [[7, 900, 2]], np.int32)
    with open(f"{path}.{ending}", "wb") as file:
        file.write(content)
    with pytest.raises(AdminError, match=r"train.de-en.en.bin, .idx: not fairseq's binarised data"):
        unigram_bits(path)


def test_data_that_are_something_else_are_not_judged(tmp_path):
    folder = tmp_path / "mine" / "bin"
    path = write_binarised(folder, np.arange(64).reshape(8, 8))
    log = log_of(valid=[5.01], data=folder)
    assert run_of(log).verdict == "stuck"
    os.remove(f"{path}.idx")
    os.mkfifo(f"{path}.idx")
    assert run_of(log).verdict == ""


def test_best_validation_and_last_loss():
    run = run_of(log_of([9.0, 8.0, 7.0], [6.0, 5.5, 5.75]) + train_line(200, 6.5))
    assert (run.best.loss, run.best.update, run.last_loss) == (5.5, 150, 6.5)
