"""A small model of random weights, as a checkpoint, and the data folder to go with it."""

import pytest
import torch
from fairseq.models import build_model

from admin_fairseq import pieces
from admin_fairseq.checkpoints.dictionaries import DataBin, data_bin
from admin_fairseq.config import AdminLanguageModelConfig, AdminTransformerConfig, resolve
from tests.checkpoints.conftest import move


@pytest.fixture
def data(tmp_path, task):
    folder = tmp_path / "bin"
    folder.mkdir()
    for language in ("de", "en"):
        task.source_dictionary.save(str(folder / f"dict.{language}.txt"))
    return data_bin(str(folder), {"source_lang": "de", "target_lang": "en"})


@pytest.fixture
def checkpoint(build):
    def checkpoint(arch="admin_transformer_tiny", **options):
        torch.manual_seed(2)
        options = {"encoder_layers": 2, "decoder_layers": 1, **options}
        model = move(build(arch, **options))
        config = resolve(AdminTransformerConfig(_name=arch, **options))
        return {
            "args": None,
            "cfg": {"model": vars(config), "task": {"_name": "translation"}},
            "model": model.state_dict(),
        }

    return checkpoint


@pytest.fixture
def text(tmp_path, task):
    """The data folder of a language model."""
    (tmp_path / "lm").mkdir()
    task.target_dictionary.save(str(tmp_path / "lm" / "dict.txt"))
    return data_bin(str(tmp_path / "lm"), {"_name": "language_modeling"})


@pytest.fixture
def language_model(task):
    """language_model("admin_transformer_lm_tiny", **options) → a checkpoint."""

    def language_model(arch="admin_transformer_lm_tiny", **options):
        torch.manual_seed(2)
        options = {"decoder_layers": 2, "tokens_per_sample": 30, "add_bos_token": False, **options}
        model = move(build_model(AdminLanguageModelConfig(_name=arch, **options), task))
        config = resolve(AdminLanguageModelConfig(_name=arch, **options))
        return {
            "args": None,
            "cfg": {"model": vars(config), "task": {"_name": "language_modeling"}},
            "model": model.state_dict(),
        }

    return language_model


@pytest.fixture
def subwords(tmp_path):
    """A sentencepiece model that has each word of the dictionary as a piece, "▁word0"."""
    path = str(tmp_path / "spm.model")
    pieces.learn([f"word{i} word{j}" for i in range(20) for j in range(20)], path, 23, kind="word")
    return path


def of_pieces(data):
    """Rename the words of the dictionaries as the pieces of ``subwords``."""
    for path in data.files.values():
        with open(path) as file:
            lines = file.readlines()
        with open(path, "w") as file:
            file.writelines(f"▁{line}" for line in lines)


@pytest.fixture(scope="module")
def bins(task, tmp_path_factory):
    """DataBin of a translation model, or of a language model: bins("lm")."""
    folder = tmp_path_factory.mktemp("bin")
    for name in ("dict.de.txt", "dict.en.txt", "dict.txt"):
        task.source_dictionary.save(str(folder / name))
    return lambda arch: DataBin(str(folder), *(() if "lm" in arch else ("de", "en")))


@pytest.fixture(scope="module")
def subwords_of_words(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("spm") / "spm.model")
    pieces.learn([f"word{i} word{j}" for i in range(20) for j in range(20)], path, 25)
    return path
