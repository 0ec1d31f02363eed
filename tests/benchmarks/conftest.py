"""The commands of benchmarks/, and options with which they end in seconds."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"

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
def command(monkeypatch, tmp_path):
    """Runs one: command("training", "--blocks", "2"); its files are in ``tmp_path``."""
    threads = torch.get_num_threads()

    def run(name, *words):
        spec = spec_from_file_location(f"benchmarks_{name}", SCRIPTS / f"{name}.py")
        module = module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module.main(["--output", str(tmp_path), *words])

    yield run
    torch.set_num_threads(threads)
