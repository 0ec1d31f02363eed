import itertools
import json
import random
from statistics import median
from types import SimpleNamespace

import pytest
from fairseq import options, tasks
from fairseq.trainer import Trainer
from fairseq_cli import preprocess

from admin_fairseq import benchmark
from admin_fairseq.benchmark import Options
from admin_fairseq.benchmarks import trainers
from admin_fairseq.cli import main
from admin_fairseq.errors import AdminError
from admin_fairseq.fairseq_runs import build_model

TINY = {
    "arch": "admin_transformer_tiny",
    "encoder_layers": 2,
    "decoder_layers": 1,
    "vocabulary": 60,
    "max_tokens": 200,
    "updates": 2,
    "blocks": 2,
    "warmup_updates": 1,
    "cpu": True,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Sentences of which no two are alike."""
    folder = tmp_path_factory.mktemp("corpus")
    random.seed(1)
    for lang in ("de", "en"):
        lines = [" ".join(random.choices("abcdefgh", k=random.randint(4, 9))) for _ in range(200)]
        (folder / f"train.{lang}").write_text("\n".join(lines) + "\n")
    words = ["--source-lang", "de", "--target-lang", "en", "--trainpref", str(folder / "train")]
    words += ["--destdir", str(folder / "bin")]
    preprocess.main(options.get_preprocessing_parser().parse_args(words))
    return str(folder / "bin")


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


@pytest.fixture(scope="module")
def result():
    return benchmark.benchmark(Options(**TINY))


def test_speeds_and_ratio(result):
    for side in (result["stock"], result["ours"]):
        assert len(side["words_per_second_by_block"]) == 2
        assert min(side["words_per_second_by_block"]) > 0
        assert side["words_per_second"] == median(side["words_per_second_by_block"])
    assert result["ratio"]["speed"] == pytest.approx(
        result["ours"]["words_per_second"] / result["stock"]["words_per_second"]
    )


def test_memory_is_that_of_one_model(result):
    ours, stock = result["ours"]["peak_memory"], result["stock"]["peak_memory"]
    if ours is None or stock is None:
        assert result["ratio"]["memory"] is None
        return
    assert result["ratio"]["memory"] == ours / stock
    assert ours >= 4 * 4 * result["ours"]["parameters"]  # weights, gradients, two moments


def test_both_train_on_the_same_batches(data, seen):
    benchmark.benchmark(Options(**{**TINY, "data": data, "max_tokens": 100}))
    stock, ours = seen["TransformerModel"], seen["AdminTransformerModel"]
    assert stock == ours
    # one batch before the blocks, then (1 + 2) in each of two blocks
    assert len(stock) == 1 + 2 * 3
    assert len({str(batch) for batch in stock[1:]}) == 6


def test_words_are_the_batches_words(monkeypatch):
    """With a clock that ticks once between two looks, speed is the number of words itself."""
    ticks = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: next(ticks))
    monkeypatch.setattr(trainers, "time", clock)
    result = benchmark.benchmark(Options(**{**TINY, "blocks": 1}))
    sentences = 200 // benchmark.SENTENCE_LENGTH
    assert result["stock"]["words_per_second"] == 2 * sentences * benchmark.SENTENCE_LENGTH
    assert result["ratio"]["speed"] == 1


@pytest.mark.parametrize("family", ["admin", "postln", "preln", "tfixup"])
def test_stock_has_our_sizes_and_norms(family):
    arch = f"{family}_transformer_wmt_en_de_big"
    runs = benchmark.configurations(Options(**{**TINY, "arch": arch}))
    ours, stock = runs["ours"].model, runs["stock"].model
    for key in ("encoder_embed_dim", "decoder_ffn_embed_dim", "decoder_attention_heads"):
        assert getattr(stock, key) == ours[key], key
    assert (stock.encoder_layers, stock.decoder_layers, stock.dropout) == (2, 1, 0.3)
    assert stock.decoder_normalize_before is (family == "preln")
    for section in ("optimizer", "lr_scheduler", "criterion", "dataset", "common"):
        assert runs["ours"][section] == runs["stock"][section]


@pytest.mark.parametrize("family", ["postln", "preln"])
def test_every_parameter_of_ours_is_in_stock(family):
    runs = benchmark.configurations(Options(**{**TINY, "arch": f"{family}_transformer_tiny"}))
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
        benchmark.benchmark(Options(**{**TINY, "data": data, "max_tokens": 2}))


def test_admin_needs_no_profile_and_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    benchmark.benchmark(Options(**{**TINY, "blocks": 1, "init_type": "adaptive"}))
    assert list(tmp_path.iterdir()) == []


def test_report_says_what_was_measured(result):
    first, *_, last = benchmark.report(result)
    assert "speed" in first and "memory" in first and "median of 2" in first
    assert last.startswith("ratio ours/stock: speed ")
    assert f"{result['ratio']['speed']:.3f}" in last


def test_unmeasured_memory_is_not_available(result):
    sides = {side: {**result[side], "peak_memory": None} for side in ("stock", "ours")}
    lines = benchmark.report({**result, **sides, "ratio": {**result["ratio"], "memory": None}})
    assert sum("memory n/a" in line for line in lines) == 3


def test_result_is_plain_json(result):
    assert json.loads(json.dumps(result, allow_nan=False)) == result


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"arch": "transformer"}, "unknown --arch transformer"),
        ({"init_type": "magic"}, "unknown --init-type magic"),
        ({"fp16": True}, "--fp16 needs a GPU"),
        ({"updates": 0}, "--updates takes a whole number from 1"),
        ({"warmup_updates": -1}, "--warmup-updates takes a whole number from 0"),
        ({"vocabulary": 5}, "--vocabulary takes a whole number from 31"),
        ({"encoder_layers": 10**9}, "--encoder-layers takes a whole number from 1 to 10,000"),
        ({"max_tokens": 10**18}, "--max-tokens takes"),
        ({"seed": -1}, "--seed takes"),
        ({"max_tokens": 5}, "no sentence fits into --max-tokens 5"),
        ({"data": "/nowhere"}, "/nowhere: no folder that fairseq-preprocess made"),
        ({"arch": "preln_transformer_tiny", "init_type": "adaptive"}, "stands for Pre-LN"),
    ],
)
def test_mistakes_are_told_in_one_line(wrong, word):
    with pytest.raises(AdminError) as error:
        benchmark.benchmark(Options(**{**TINY, **wrong}))
    assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_a_result_that_cannot_be_written_is_told_before_anything_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "benchmark", None)
    (tmp_path / "file").touch()
    path = f"{tmp_path}/file/result.json"
    with pytest.raises(SystemExit, match=r"file/result\.json: cannot be written"):
        main(["benchmark", "--json", path])


def test_the_result_is_written_too(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "benchmark", lambda options: {"updates": options.updates})
    monkeypatch.setattr(benchmark, "report", lambda result: [])
    main(["benchmark", "--updates", "3", "--json", f"{tmp_path}/result.json"])
    assert json.loads((tmp_path / "result.json").read_text()) == {"updates": 3}
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
