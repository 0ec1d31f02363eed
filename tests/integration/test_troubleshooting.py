"""fairseq's own messages, which docs/troubleshooting.md explains, are still its own."""

import pytest

from .conftest import PAIR
from .shims import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
BATCH = ["--max-tokens", "200", "--cpu"]


@pytest.fixture(scope="module")
def checkpoint(run, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    run.train(data, folder, "--max-update", 1)
    return folder / "checkpoint_last.pt"


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["fairseq-generate", "DATA", "--path", "CHECKPOINT", *BATCH, *PAIR], 1, "'_name'"),
        (["fairseq-validate", "DATA", "--path", "CHECKPOINT", *BATCH], 1, "KeyError: None"),
        (
            ["fairseq-train", "DATA", "--arch", "admin_transformer"],
            2,
            "argument --arch/-a: invalid choice: 'admin_transformer'",
        ),
        (
            ["fairseq-train", "DATA", "--user-dir", "admin_fairseq", "--arch", "transformer"],
            1,
            "Must specify batch size either with --max-tokens or --batch-size",
        ),
    ],
)
def test_the_page_has_the_message(words, status, message, run, data, checkpoint):
    places = {"DATA": data, "CHECKPOINT": checkpoint}
    failed = run(*[places.get(word, word) for word in words], status=status)
    assert message in failed.errors.splitlines()[-1] and message in PAGE


def test_with_the_plugin_validation_asks_for_its_task(run, data, checkpoint):
    words = [data, "--user-dir", "admin_fairseq", "--path", checkpoint, *BATCH]
    failed = run("fairseq-validate", *words, status=1)
    (line,) = [line for line in failed.errors.splitlines() if "error" in line]
    assert "--task is missing" in line and "Traceback" not in failed.errors
    run("fairseq-validate", *words, "--task", "translation", "--valid-subset", "valid")
