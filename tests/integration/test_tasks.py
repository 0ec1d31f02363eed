"""fairseq's tasks beside translation and language_modeling."""

import pytest

COMMAND = [
    *("--user-dir", "admin_fairseq", "--arch", "admin_transformer_tiny", "--cpu"),
    *("--encoder-layers", "2", "--decoder-layers", "2", "--optimizer", "radam", "--lr", "1e-3"),
    *("--criterion", "label_smoothed_cross_entropy", "--max-tokens", "600", "--num-workers", "0"),
    *("--log-format", "simple", "--log-interval", "1", "--disable-validation"),
    *("--max-update", "3", "--max-source-positions", "64", "--max-target-positions", "64"),
]
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
    log = run("fairseq-train", data, *COMMAND, *task, "--save-dir", tmp_path)
    assert "profiled batch 1" in log and len(log.losses()) == 3
