"""Our schemes against the authors' models: weights at the start, and logits."""

import re
from types import SimpleNamespace

import pytest
import torch
from fairseq.data import Dictionary
from fairseq.models import build_model

from admin_fairseq.config import AdminTransformerConfig
from admin_fairseq.schemes import SCHEMES

from ..conftest import held
from . import NUMBERS, numbers, subject

EVERY = {path.stem: numbers(path.stem) for path in sorted(NUMBERS.glob("*.json"))}
FILES = {name: content for name, content in EVERY.items() if "logits" in content}
"""Those of schemes; their names are the schemes', where they do not say another one."""


def build(scheme, depths, sizes, types, shared):
    dictionary = Dictionary()
    for i in range(types):
        dictionary.add_symbol(f"word{i}")
    task = SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary)
    named = {f"{stack}_{key}": v for stack in ("encoder", "decoder") for key, v in sizes.items()}
    layers = dict(zip(("encoder_layers", "decoder_layers"), depths))
    cfg = AdminTransformerConfig(
        _name="admin_transformer_tiny",
        init_type=FILES[scheme].get("scheme", scheme),
        **{**named, **layers, "share_all_embeddings": shared, "dropout": 0.0},
        **FILES[scheme]["options"],
    )
    return build_model(cfg, task)


@pytest.mark.parametrize("name", SCHEMES)
def test_the_table_says_what_a_scheme_was_compared_with(name):
    content = EVERY.get("adaptive" if name.startswith("adaptive-") else name)
    said = SCHEMES[name].compared_with
    by_hand = "no code is public" in said or said.startswith("fairseq's ")  # tests/models
    assert by_hand == (content is None)
    assert content is None or said == f"{content['repository']} at {content['commit'][:7]}"


STARTS = [(name, depths, False) for name in FILES for depths in subject.DEPTHS]
STARTS += [(name, subject.DEPTHS[-1], True) for name in FILES]


@pytest.mark.parametrize(("name", "depths", "shared"), STARTS)
def test_weights_at_the_start(name, depths, shared):
    """``shared``: one table for all embeddings, which a rule might scale more than once."""
    file = FILES[name]
    theirs = dict(file["start_shared"] if shared else file["start"][spelled(depths)])
    ours, counts = drawn(name, depths, shared)
    for found, alone in ((ours, "ours_alone"), (theirs, "theirs_alone")):
        for key in [key for key in found if subject.among(key, file.get(alone, ()))]:
            neutral = subject.neutral(key)
            assert found.pop(key) == [neutral, 0, neutral], key
    assert set(ours) == set(theirs)
    # what is drawn otherwise than in the paper stands in test_gains
    compared = set(theirs) - set(file.get("gains", {}).get(spelled(depths), {}))
    wrong = {
        key: (ours[key], theirs[key])
        for key in compared
        if not alike(ours[key], theirs[key], counts[key])
    }
    assert not wrong


def drawn(name, depths, shared=False):
    """Numbers of our weights, as ``pooled`` and ``counted`` give them."""
    torch.manual_seed(2)
    model = build(name, depths, subject.DRAWN, subject.TYPES_DRAWN, shared)
    return subject.pooled(held(model)), subject.counted(held(model))


def spelled(depths):
    return "-".join(map(str, depths))


@pytest.mark.parametrize("depths", subject.DEPTHS)
@pytest.mark.parametrize("name", [name for name in FILES if "gains" in FILES[name]])
def test_gains(name, depths):
    """torchscale scales torch's default, biases too, where the papers draw with Xavier.

    Ours are Xavier's times the same gain; biases are those of the Admin release (DeepNorm), and
    fairseq's (Sub-LN).
    """
    ours, counts = drawn(name, depths)
    width, hidden = subject.DRAWN["embed_dim"], subject.DRAWN["ffn_embed_dim"]
    for key, gain in FILES[name]["gains"][spelled(depths)].items():
        if key.endswith(".bias"):
            uniform = name == "subln" and re.search(r"[qkv]_proj", key)
            expected = [0, (3 * width) ** -0.5, width**-0.5] if uniform else [0, 0, 0]
        else:
            if name == "deepnet_torchscale" and key.startswith("encoder.") and gain != 1:
                gain *= 0.87 / 1.15  # theirs for the paper's and the release's
            deviation = gain * (2 / (width + (hidden if ".fc" in key else width))) ** 0.5
            expected = [0, deviation, 4 * deviation]
        assert alike(ours[key], expected, counts[key]), key


def alike(ours, theirs, count):
    """Mean, standard deviation and largest size: of uniform or normal draws, or of constants.

    Of ``count`` draws, ours as theirs, what is compared is as exact as they let it be.
    """
    (mean, deviation, largest), (their_mean, their_deviation, their_largest) = ours, theirs
    if not their_deviation:
        return deviation == 0 and mean == pytest.approx(their_mean, rel=1e-5)
    uniform, theirs_uniform = largest < 2 * deviation, their_largest < 2 * their_deviation
    if uniform:  # that none comes near the bound is rare: (1 - 0.05)^192 for three layers' biases
        close = largest == pytest.approx(their_largest, rel=min(0.05, 200 / count))
    else:
        close = deviation == pytest.approx(their_deviation, rel=4 / count**0.5)
    centred = abs(mean - their_mean) < 5 * (2 / count) ** 0.5 * deviation
    return close and centred and uniform == theirs_uniform


@pytest.mark.parametrize("scheme", FILES)
def test_logits(scheme):
    depths, sizes = subject.DEPTHS_COMPUTED, subject.COMPUTED
    model = build(scheme, depths, sizes, subject.TYPES_COMPUTED, True).double().eval()
    constants = tuple(FILES[scheme]["constants"]) or ("none",)
    with torch.no_grad():
        for name, parameter in held(model).items():
            if subject.among(name, FILES[scheme].get("ours_alone", ())):
                parameter.fill_(subject.neutral(name))
            elif not name.endswith(constants):
                name = FILES[scheme].get("tied", {}).get(name, name)
                parameter.copy_(subject.weights(name, tuple(parameter.shape)))
        found, _ = model(subject.SOURCE, subject.LENGTHS, subject.PREVIOUS)
    expected = torch.tensor(FILES[scheme]["logits"], dtype=torch.float64)
    tokens = subject.PREVIOUS.ne(subject.PAD)
    largest = (found - expected)[tokens].abs().max() / expected[tokens].abs().max()
    assert largest < 1e-6


def test_looks_linear_mirrors_exactly():
    assert FILES["looklinear"]["mirrored"] == 0
    model = build("looklinear", subject.DEPTHS[0], subject.DRAWN, subject.TYPES_DRAWN, False)
    for name, value in model.named_parameters():
        for dim, last in enumerate(("fc1.weight", "fc2.weight")):
            if name.endswith(last):
                first, second = value.chunk(2, dim=dim)
                assert torch.equal(first, -second)
