"""Speed and memory of one model at a time: the study ``gpu``, here on a CPU."""

import itertools
from statistics import median
from types import SimpleNamespace

import pytest
import torch
from fairseq import tasks
from fairseq.trainer import Trainer

from admin_fairseq.benchmarks import sides, trainers
from admin_fairseq.benchmarks.gpu import WORKLOADS, Options, _pair
from admin_fairseq.benchmarks.options import SENTENCE_LENGTH, Workload
from admin_fairseq.benchmarks.table import TABLE
from admin_fairseq.errors import AdminError
from admin_fairseq.fairseq_runs import build_model
from admin_fairseq.studies.options import check

TINY = {
    "arch": "admin_transformer_tiny",
    "encoder_layers": 2,
    "decoder_layers": 1,
    "vocabulary": 60,
    "max_tokens": 200,
    "updates": 2,
    "blocks": 2,
    "warmup_updates": 1,
    "our_words": (),
    "cpu": True,
}


def measure(**changed):
    options = Options(**{**TINY, **changed})
    check(options)
    return TABLE.studies["gpu"].measure(options).rows[0]


@pytest.fixture
def seen(monkeypatch):
    """What Trainer.train_step was given: model → source and target tokens, in order."""
    seen = {}
    train_step = Trainer.train_step

    def spy(self, samples, **how):
        (sample,) = samples
        texts = (sample["net_input"]["src_tokens"].tolist(), sample["target"].tolist())
        seen.setdefault(type(self.model).__name__, []).append(texts)
        return train_step(self, samples, **how)

    monkeypatch.setattr(Trainer, "train_step", spy)
    return seen


def test_an_architecture_alone_is_a_row():
    assert list(Options().rows) == list(WORKLOADS)
    (row,) = Options(arch="preln_transformer", layers=3, decoder_layers=2).rows.items()
    assert row[0] == "preln_transformer"
    assert (row[1].encoder_layers, row[1].decoder_layers) == (3, 2)
    both = Options(arch="preln_transformer", sizes=("iwslt",), max_tokens=7).rows
    assert list(both) == ["preln_transformer", "iwslt"]
    assert {row.max_tokens for row in both.values()} == {7}


def test_speeds_ratio_and_memory_are_those_of_one_model():
    row = measure()
    assert (row.size, row.precision) == ("admin_transformer_tiny", "fp32")
    for side in (row.stock, row.ours):
        assert len(side.words_per_second.by_block) == 2
        assert side.words_per_second.median == median(side.words_per_second.by_block) > 0
    if row.ours.peak_memory is None or row.stock.peak_memory is None:
        assert row.ratio.memory is None
        return
    assert row.ratio.memory == row.ours.peak_memory / row.stock.peak_memory
    assert row.ours.peak_memory >= 4 * 4 * row.ours.parameters  # weights, gradients, two moments


def test_only_what_was_measured_is_drawn():
    study = TABLE.studies["gpu"]
    panels = study.draw(study.measure(Options(**{**TINY, "blocks": 1})))["gpu"].panels
    drawn = {panel.title for panel in panels}
    assert ("Matrix units" in drawn) is torch.cuda.is_available() and "Training speed" in drawn


def test_both_train_on_the_same_batches(data, seen):
    measure(data=data, max_tokens=100)
    stock, ours = seen["TransformerModel"], seen["AdminTransformerModel"]
    assert stock == ours
    # one batch before the blocks, then (1 + 2) in each of two blocks
    assert len(stock) == 1 + 2 * 3
    assert len({str(batch) for batch in stock[1:]}) == 6


def test_words_are_the_batches_words(monkeypatch):
    """With a clock that ticks once between two looks, speed is the number of words itself."""
    ticks = itertools.count()
    monkeypatch.setattr(trainers, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    row = measure(blocks=1)
    sentences = 200 // SENTENCE_LENGTH
    assert row.stock.words_per_second.median == 2 * sentences * SENTENCE_LENGTH
    assert row.ratio.speed.median == 1


@pytest.mark.parametrize("family", ["admin", "postln", "preln", "tfixup"])
def test_stock_has_our_sizes_and_norms(family):
    workload = Workload(
        arch=f"{family}_transformer_wmt_en_de_big", encoder_layers=2, decoder_layers=1, cpu=True
    )
    runs = {name: side.run for name, side in sides.pair(workload, (), ()).items()}
    ours, stock = runs["ours"].model, runs["stock"].model
    for key in ("encoder_embed_dim", "decoder_ffn_embed_dim", "decoder_attention_heads"):
        assert getattr(stock, key) == ours[key], key
    assert (stock.encoder_layers, stock.decoder_layers, stock.dropout) == (2, 1, 0.3)
    assert stock.decoder_normalize_before is (family == "preln")
    for section in ("optimizer", "lr_scheduler", "criterion", "dataset", "common"):
        assert runs["ours"][section] == runs["stock"][section]


@pytest.mark.parametrize("family", ["postln", "preln"])
def test_every_parameter_of_ours_is_in_stock(family):
    workload = Workload(arch=f"{family}_transformer_tiny", vocabulary=60, cpu=True)
    runs = {name: side.run for name, side in sides.pair(workload, (), ()).items()}
    task = tasks.setup_task(runs["stock"].task)
    shapes = {
        side: {name: weight.shape for name, weight in build_model(run, task).named_parameters()}
        for side, run in runs.items()
    }
    assert shapes["ours"].items() <= shapes["stock"].items()
    # fairseq 0.12.2 has copies of an encoder layer's weights, which it calls layers.0.fc1_weight
    copies = [n for n in shapes["stock"].keys() - shapes["ours"].keys() if ".layers." not in n]
    assert not copies


def test_data_of_which_nothing_fits(data):
    with pytest.raises(AdminError, match="no sentence fits into --max-tokens 2"):
        measure(data=data, max_tokens=2)


def test_admin_needs_no_profile_and_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    measure(blocks=1, init_type="adaptive")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"arch": "transformer"}, "unknown --arch transformer"),
        ({"init_type": "magic"}, "magic"),
        ({"precisions": ("fp16",)}, "fairseq trains only in float32"),
        ({"updates": 0}, "--updates takes a whole number from 1"),
        ({"warmup_updates": -1}, "--warmup-updates takes a whole number from 0"),
        ({"vocabulary": 5}, "--vocabulary takes a whole number from 31"),
        ({"encoder_layers": 10**9}, "--encoder-layers takes a whole number from 1 to 10,000"),
        ({"max_tokens": 10**18}, "--max-tokens takes"),
        ({"seed": -1}, "--seed takes"),
        ({"max_tokens": 5}, "no sentence fits into --max-tokens 5"),
        ({"data": "/nowhere"}, "/nowhere: not a folder that fairseq-preprocess wrote"),
        ({"arch": "preln_transformer_tiny", "init_type": "adaptive"}, "stands for Pre-LN"),
    ],
)
def test_mistakes_are_told_in_one_line(wrong, word):
    with pytest.raises(AdminError) as error:
        measure(**wrong)
    assert word in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
def test_graphs_are_our_default_where_they_work(precision, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    (row,) = Options(**{**TINY, "our_words": None, "cpu": False}).rows.values()
    options = Options(**{**TINY, "our_words": None, "cpu": False})
    ours = _pair(row, precision, options)["ours"].run
    assert ours.criterion._name == "label_smoothed_cross_entropy_chunked"
    assert ours.criterion.cuda_graphs == (precision != "fp32")
    assert (ours.common.fp16, ours.common.bf16) == (precision == "fp16", precision == "bf16")
    theirs = _pair(row, precision, Options(**{**TINY, "our_words": (), "cpu": False}))["ours"].run
    assert theirs.criterion._name == "label_smoothed_cross_entropy"
