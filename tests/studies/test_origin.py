import subprocess

import pytest
import torch

from admin_fairseq.benchmarks import trainers
from admin_fairseq.studies import origin


def test_says_what_and_where():
    found = origin.origin(on_gpu=False)
    assert found["machine"]["device"] == "CPU"
    assert found["machine"]["threads"] == torch.get_num_threads()
    assert {"python", "torch", "numpy"} <= found["versions"].keys()


def test_commit_of_the_repository(tmp_path, monkeypatch):
    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(
            ["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    monkeypatch.setattr(origin, "ROOT", tmp_path)
    try:
        git("init")
    except OSError:
        pytest.skip("no git here")
    assert origin._source() is None  # a repository, but not the package's
    package = tmp_path / "admin_fairseq"
    package.mkdir()
    (package / "__init__.py").write_text("")
    git("add", ".")
    git("commit", "-m", "one")
    assert origin._source() == {"commit": git("rev-parse", "HEAD"), "changed_since": False}
    (package / "new.py").write_text("")
    assert origin._source()["changed_since"] is True


def test_compiled_graphs_are_counted():
    before = trainers.compiled_graphs()
    torch.compile(lambda x: x + 1, backend="eager")(torch.ones(2))
    assert trainers.compiled_graphs() == before + 1
