"""--encoder-embed-path and --decoder-embed-path."""

import logging
import os

import pytest
import torch

from admin_fairseq.errors import AdminError
from admin_fairseq.schemes import SCHEMES

DIM, LOADED = 64, range(4, 12)  # of the 24 types of ``task``'s dictionary
SIZES = {"encoder_layers": 3, "decoder_layers": 2}


def vector(row):
    return [0.5 + row / 100] * DIM


@pytest.fixture
def path(task, tmp_path):
    """A file with vectors of some of the types, and of a word that is none."""
    path = tmp_path / "words.vec"
    words = [(task.source_dictionary[row], vector(row)) for row in LOADED] + [("?", vector(0))]
    lines = [" ".join([word, *map(str, numbers)]) for word, numbers in words]
    path.write_text("\n".join([f"{len(lines)} {DIM}", *lines]) + "\n")
    return str(path)


def seeded(build, **options):
    torch.manual_seed(5)
    return build(**SIZES, **options)


@pytest.mark.parametrize("init_type", SCHEMES)
def test_what_was_loaded_stays_and_the_others_are_the_scheme_s(init_type, build, path):
    given = {"encoder_embed_path": path, "decoder_embed_path": path}
    plain = seeded(build, init_type=init_type).state_dict()
    model = seeded(build, init_type=init_type, **given).state_dict()
    expected = torch.tensor([vector(row) for row in LOADED])
    for stack in ("encoder", "decoder"):
        weight = model.pop(f"{stack}.embed_tokens.weight")
        drawn = plain.pop(f"{stack}.embed_tokens.weight")
        assert torch.equal(weight[4:12], expected)
        assert torch.equal(weight[:4], drawn[:4]) and torch.equal(weight[12:], drawn[12:])
    for name in plain:  # fairseq 0.12.2 leaves what _float_tensor holds to chance
        assert name.endswith("_float_tensor") or torch.equal(model[name], plain[name]), name


@pytest.mark.parametrize(
    ("init_type", "told"), [("tfixup", True), ("lipschitz", True), ("default", False)]
)
def test_a_line_says_where_the_scheme_would_have_drawn_or_scaled(
    init_type, told, build, path, caplog
):
    with caplog.at_level(logging.WARNING, "admin_fairseq"):
        seeded(build, init_type=init_type, share_all_embeddings=True, encoder_embed_path=path)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == told
    if told:
        assert lines[0].startswith("encoder.embed_tokens: 8 of 24 embeddings")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "none of its words is among the dictionary's 24 types"),
        ("1 64\nword3" + 64 * " a" + "\n", "not a file of embeddings"),
        ("1 64\nword3" + 64 * " nan" + "\n", "not a file of embeddings"),
        ("1 64\nword3" + 64 * " 1e39" + "\n", "not a file of embeddings"),
        ("x" * (1 << 21), "not a file of embeddings"),
        ("1 64\nword3" + " 1" * (1 << 20), "word3 has 524285 numbers"),
        ("1 64\n?" + 64 * " 0.5" + "\n", "none of its words is among the dictionary's 24 types"),
        ("1 2\nword3 0.5 0.5\n", "word3 has 2 numbers, not 64"),
        ("1 1\nword3 0.5\n", "word3 has 1 numbers, not 64"),
        (b"1 64\n\xff 0.5\n", "not a file of embeddings"),
    ],
)
def test_other_files_are_refused(content, message, build, tmp_path):
    path = tmp_path / "words.vec"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(AdminError, match=f"{path}.*: .*{message}"):
        seeded(build, encoder_embed_path=str(path))


def test_what_never_ends_is_not_read(build, tmp_path):
    path = tmp_path / "words.vec"
    os.mkfifo(path)
    for place in (path, tmp_path / "none"):
        with pytest.raises(AdminError, match=f"{place}: cannot be read: "):
            seeded(build, encoder_embed_path=str(place))


def test_a_first_line_that_is_a_vector_is_one(build, task, tmp_path):
    """GloVe's files have no line of sizes."""
    path = tmp_path / "words.vec"
    path.write_text("".join(f"{task.source_dictionary[row]}{' 0.25' * DIM}\n" for row in (4, 5)))
    weight = seeded(build, encoder_embed_path=str(path)).encoder.embed_tokens.weight
    assert weight[4:6].eq(0.25).all() and not weight[6].eq(0.25).any()
