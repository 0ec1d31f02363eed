"""fairseq's tasks beside translation and language_modeling."""

import pytest

COMMAND = [
    *("--user-dir", "admin_fairseq", "--cpu"),
    *("--decoder-layers", "2", "--optimizer", "radam", "--lr", "1e-3"),
    *("--criterion", "cross_entropy", "--max-tokens", "600", "--num-workers", "0"),
    *("--log-format", "simple", "--log-interval", "1", "--disable-validation"),
    *("--max-update", "3", "--max-target-positions", "64"),
]
BOTH = ["--arch", "admin_transformer_tiny", "--encoder-layers", "2", "--max-source-positions", "64"]
SEVERAL = ["--task", "translation_multi_simple_epoch", "--langs", "de,en"]


@pytest.mark.parametrize(
    "task",
    [
        [*SEVERAL, "--lang-pairs", "de-en"],
        [*SEVERAL, "--lang-pairs", "de-en,en-de", "--sampling-method", "uniform"],
        [*SEVERAL, "--lang-pairs", "de-en", "--decoder-langtok", "--virtual-epoch-size", "100"],
        [*SEVERAL, "--lang-pairs", "de-en", "--sampling-method", "RoundRobin"],
    ],
    ids=["one pair", "two pairs", "virtual epochs", "in turns"],
)
def test_several_languages(task, run, data, tmp_path):
    """The task must find no training data that it has not loaded itself."""
    log = run("fairseq-train", data, *COMMAND, *BOTH, *task, "--save-dir", tmp_path)
    assert "profiled batch 1" in log and len(log.losses()) == 3


@pytest.fixture(scope="module")
def texts(run, data, tmp_path_factory):
    """A folder of text in two languages, and one in each of them."""
    folder, dictionary = tmp_path_factory.mktemp("texts"), data / "dict.en.txt"
    for split, language in (("valid", "de"), ("train", "en")):
        prefix = data.parent / f"{split}.{language}"
        words = ("--only-source", "--trainpref", prefix, "--srcdict", dictionary)
        run("fairseq-preprocess", *words, "--destdir", folder / language)
    (folder / "dict.txt").write_text(dictionary.read_text())
    return folder


def test_denoising(run, texts, tmp_path):
    noise = ["--task", "denoising", "--tokens-per-sample", "64", "--mask", "0.3"]
    spans = ["--mask-length", "span-poisson", "--poisson-lambda", "3", "--replace-length", "1"]
    command = ["fairseq-train", texts / "en", *COMMAND, *BOTH, *noise, *spans]
    log = run(*command, "--save-dir", tmp_path)
    assert "profiled batch 1" in log and len(log.losses()) == 3


def test_a_language_model_of_several_languages(run, texts, tmp_path):
    task = ["--task", "multilingual_language_modeling", "--langs", "de,en"]
    sampling = ["--multilang-sampling-alpha", "0.5", "--tokens-per-sample", "64"]
    command = ["fairseq-train", texts, *COMMAND, "--arch", "admin_transformer_lm_tiny", *task]
    log = run(*command, *sampling, "--save-dir", tmp_path)
    assert "profiled batch 1" in log and len(log.losses()) == 3
