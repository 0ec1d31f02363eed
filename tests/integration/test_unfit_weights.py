"""Resuming with other options or data: one line that says what differs."""

import shutil

import pytest

from .conftest import PAIR


@pytest.fixture(scope="module")
def trained(run, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopped")
    run.train(data, folder, "--max-update", 1)
    return folder


@pytest.fixture
def resume(run, data, trained):
    """Goes on from a checkpoint with more words; returns the one line that it ends in."""

    def line(*words, data=data, arch="admin_transformer_tiny"):
        failed = run.train(data, trained, "--max-update", 2, *words, arch=arch, status=1)
        (line,) = failed.errors.strip().splitlines()
        assert line.startswith("admin-fairseq: error: ") and "checkpoint_last.pt" in line
        assert "choose another --save-dir" in line and not failed.losses()
        return line

    return line


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--encoder-layers", "5"], "--encoder-layers is 3 in the checkpoint, 5 in this run"),
        (["--decoder-layers", "1"], "--decoder-layers is 2 in the checkpoint, 1 in this run"),
        (
            ["--decoder-ffn-embed-dim", "96"],
            "--decoder-ffn-embed-dim is 128 in the checkpoint, 96 in this run",
        ),
        (
            ["--encoder-embed-dim", "32"],
            "--encoder-embed-dim is 64 in the checkpoint, 32 in this run",
        ),
        (
            ["--encoder-learned-pos"],
            "--encoder-learned-pos is False in the checkpoint, True in this run",
        ),
        (
            ["--init-type", "tfixup"],
            "--init-type is adaptive-auto in the checkpoint, tfixup in this run",
        ),
    ],
)
def test_the_option_that_differs_is_named(words, told, resume):
    assert told in resume(*words)


@pytest.mark.parametrize("arch", ["preln_transformer_tiny", "transformer_iwslt_de_en"])
def test_the_architecture_that_differs_is_named(arch, resume):
    assert f"--arch is admin_transformer_tiny in the checkpoint, {arch} in this run" in resume(
        arch=arch
    )


def test_a_dictionary_of_another_size_is_named(resume, trained, run, data, tmp_path):
    text = tmp_path / "train.de"
    text.write_text("a b c\n" * 300)
    shutil.copy(text, tmp_path / "train.en")
    prefix = ["--trainpref", tmp_path / "train", "--validpref", tmp_path / "train"]
    other = tmp_path / "bin"
    prefix += ["--testpref", tmp_path / "train"]
    run("fairseq-preprocess", *PAIR, *prefix, "--joined-dictionary", "--destdir", other)
    line = resume(data=other)
    assert "the source dictionary had 88 types in training, now 8" in line
    assert "the target dictionary had 88 types in training, now 8" in line
    checkpoint = trained / "checkpoint_last.pt"
    failed = run.generate(other, checkpoint, "--user-dir", "admin_fairseq", status=1)
    line = failed.errors.strip().splitlines()[-1]
    assert line.startswith(f"admin-fairseq: error: {checkpoint}: does not fit the dictionaries")
    assert "88 types in training, now 8; use the data folder" in line
    assert "Traceback" not in failed.errors
