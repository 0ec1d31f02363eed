"""Tiny data, binarised as a user would, and models on the bench."""

import random

import pytest
from fairseq import options
from fairseq_cli import preprocess

from admin_fairseq.analysis.bench import Bench
from admin_fairseq.analysis.options import Conditions

SPLITS = {"train": 120, "valid": 24}


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    draw = random.Random(1)
    for split, pairs in SPLITS.items():
        for lang in ("de", "en"):
            lines = [" ".join(draw.choices("abcdefgh", k=draw.randint(4, 9))) for _ in range(pairs)]
            (folder / f"{split}.{lang}").write_text("\n".join(lines) + "\n")
    return folder


def _binarised(corpus, name, *words, ending=""):
    prefixes = [word for s in SPLITS for word in (f"--{s}pref", str(corpus / f"{s}{ending}"))]
    words = [*words, *prefixes, "--destdir", str(corpus / name)]
    preprocess.main(options.get_preprocessing_parser().parse_args(words))
    return str(corpus / name)


@pytest.fixture(scope="session")
def data(corpus):
    """Translation data, the languages' dictionaries joined."""
    pair = ["--source-lang", "de", "--target-lang", "en", "--joined-dictionary"]
    return _binarised(corpus, "bin", *pair)


@pytest.fixture(scope="session")
def lm_data(corpus):
    return _binarised(corpus, "lm-bin", "--only-source", ending=".en")


@pytest.fixture(scope="module")
def bench(data):
    return Bench(Conditions(data=data, max_tokens=80, cpu=True))


@pytest.fixture(scope="module")
def lm_bench(lm_data):
    return Bench(Conditions(data=lm_data, max_tokens=80, cpu=True))
