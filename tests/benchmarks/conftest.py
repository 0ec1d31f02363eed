"""``admin-fairseq benchmark WHAT``, and options with which it ends in seconds."""

import json
import random

import pytest
import torch
from fairseq import options
from fairseq_cli import preprocess

from admin_fairseq import cli

TINY = [
    *("--cpu", "--arch", "admin_transformer_tiny"),
    *("--vocabulary", "60", "--max-tokens", "100", "--threads", "1"),
]
SMALLER = [
    *("--", "--encoder-embed-dim", "16", "--decoder-embed-dim", "16"),
    *("--encoder-ffn-embed-dim", "16", "--decoder-ffn-embed-dim", "16"),
]
LAYERS = ["--encoder-layers", "2", "--decoder-layers", "2"]


@pytest.fixture
def command(tmp_path):
    """Runs one: command("training", "--blocks", "2") gives its JSON; files are in ``tmp_path``."""
    threads = torch.get_num_threads()

    def run(what, *words):
        cli.main(["benchmark", what, "-o", str(tmp_path), *words])
        return json.loads((tmp_path / f"{what}.json").read_text())

    yield run
    torch.set_num_threads(threads)


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
