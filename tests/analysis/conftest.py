"""Tiny data, binarised as a user would."""

import random

import pytest
from fairseq import options
from fairseq_cli import preprocess


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder of fairseq-preprocess with a training and a validation set, dictionaries joined."""
    folder = tmp_path_factory.mktemp("corpus")
    draw = random.Random(1)
    for split, pairs in (("train", 120), ("valid", 24)):
        for lang in ("de", "en"):
            lines = [" ".join(draw.choices("abcdefgh", k=draw.randint(4, 9))) for _ in range(pairs)]
            (folder / f"{split}.{lang}").write_text("\n".join(lines) + "\n")
    words = ["--source-lang", "de", "--target-lang", "en", "--joined-dictionary"]
    words += ["--trainpref", str(folder / "train"), "--validpref", str(folder / "valid")]
    words += ["--destdir", str(folder / "bin")]
    preprocess.main(options.get_preprocessing_parser().parse_args(words))
    return str(folder / "bin")
