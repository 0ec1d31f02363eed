"""Decoder-only models: fairseq's own with every scheme."""

import math
import re
from argparse import Namespace

import pytest
import torch
from fairseq.models import build_model
from fairseq.models.transformer_lm import TransformerLanguageModel, TransformerLanguageModelConfig

from admin_fairseq.checkpoints import building
from admin_fairseq.checkpoints.fold import difference_made, fold_checkpoint
from admin_fairseq.config import AdminLanguageModelConfig, resolve
from admin_fairseq.hooks.recorder import residual_sites
from admin_fairseq.schemes import SCHEMES
from tests.checkpoints.conftest import move
from tests.conftest import exact_softmax


@pytest.fixture
def build_lm(task):
    def build_lm(arch="admin_transformer_lm_tiny", **options):
        return build_model(AdminLanguageModelConfig(_name=arch, **options), task)

    return build_lm


@pytest.fixture
def tokens(batch):
    return batch["prev_output_tokens"]


@pytest.mark.parametrize("pre", [False, True])
@pytest.mark.parametrize("given", [{}, {"share_decoder_input_output_embed": True}])
def test_logits_and_gradients_equal_stock_bit_for_bit(build_lm, task, tokens, pre, given):
    arch = "preln_transformer_lm_tiny" if pre else "postln_transformer_lm_tiny"
    ours = build_lm(arch, decoder_layers=3, reference_kernels=True, **given).double()
    stock = vars(TransformerLanguageModelConfig(decoder_layers_to_keep=None))
    config = resolve(AdminLanguageModelConfig(_name=arch, decoder_layers=3, **given))
    theirs = TransformerLanguageModel.build_model(
        Namespace(**{**stock, **vars(config), "tokens_per_sample": 1024}), task
    ).double()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    found = []
    for model in (ours, theirs):
        torch.manual_seed(4)
        logits, _ = model.train()(tokens)
        logits.square().mean().backward()
        found.append((logits, {name: p.grad for name, p in model.named_parameters()}))
    assert torch.equal(found[0][0], found[1][0])
    for name, gradient in found[0][1].items():
        assert torch.equal(gradient, found[1][1][name]), name


def test_keel_alone_counts_two_sublayers_a_layer(build_lm):
    model = build_lm(init_type="keel", decoder_layers=3)
    omegas = [buffer.unique().item() for name, buffer in model.named_buffers() if "omega" in name]
    assert omegas == [1, 1, 6, 6, 6, 6]


def test_normformer_without_head_scales_equals_stock(build_lm, task, tokens):
    """fairseq has the parts in its language model alone."""
    how = {"decoder_layers": 3, "init_type": "normformer", "normformer_parts": "attn,fc"}
    ours = move(build_lm(**how)).double().eval()
    stock = vars(TransformerLanguageModelConfig(decoder_layers_to_keep=None))
    config = vars(resolve(AdminLanguageModelConfig(_name="admin_transformer_lm_tiny", **how)))
    parts = {"scale_attn": True, "scale_fc": True, "tokens_per_sample": 1024}
    theirs = TransformerLanguageModel.build_model(Namespace(**{**stock, **config, **parts}), task)
    names = (("output_norms.self_attn", "attn_ln"), ("fc2.before", "ffn_layernorm"))
    weights = ours.state_dict()
    for mine, stocks in names:
        weights = {name.replace(mine, stocks): value for name, value in weights.items()}
    theirs.double().eval().load_state_dict(weights, strict=True)
    with exact_softmax():
        found, expected = (model(tokens)[0][tokens.ne(1)] for model in (ours, theirs))
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", SCHEMES)
def test_thirty_updates_lower_the_loss(build_lm, tokens, name):
    torch.manual_seed(1)
    options = {"branchnorm_updates": 10} if name == "branchnorm" else {}
    model = build_lm(init_type=name, dropout=0.0, **options)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    losses = []
    for update in range(30):
        model.set_num_updates(update)
        logits, _ = model(tokens)
        loss = torch.nn.functional.cross_entropy(
            logits[:, :-1].transpose(1, 2), tokens[:, 1:], ignore_index=1
        )
        optimizer.zero_grad()
        loss.backward()
        if not update:
            gradients = [p.grad for p in model.parameters() if p.requires_grad]
            assert all(g is not None and torch.isfinite(g).all() for g in gradients)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", SCHEMES)
def test_no_word_sees_what_follows_it(build_lm, tokens, name):
    shared = {"share_decoder_input_output_embed": True}  # Fixup's own projection starts at zero
    model = move(build_lm(init_type=name, decoder_layers=2, **shared)).double()
    other = tokens.clone()
    other[:, 3:] = tokens[:, 3:].flip(0)
    before, after = model(tokens)[0], model(other)[0]
    assert torch.allclose(before[:, :3], after[:, :3], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(before[:, 3:], after[:, 3:])


def start(model, pattern):
    """Everything that starts under such a name, in one vector."""
    found = [p for n, p in model.state_dict().items() if re.fullmatch(pattern, n)]
    return torch.cat([p.flatten() for p in found])


def test_schemes_count_two_sublayers_a_layer(build_lm):
    """Pinned at 6 layers, n = 12."""
    omega = r".*\.omega"
    fc1 = r".*\.fc1\.weight"
    xavier = math.sqrt(2 / 192)
    deepnet = build_lm(init_type="deepnet")
    assert start(deepnet, omega).unique().item() == pytest.approx(1.8612, abs=5e-5)
    assert start(deepnet, fc1).std().item() == pytest.approx(0.3799 * xavier, rel=0.02)
    admin_torch = build_lm(init_type="admin-torch")
    assert start(admin_torch, omega).unique().item() == pytest.approx(2.0170, abs=5e-5)
    subln = build_lm(init_type="subln")
    assert start(subln, fc1).std().item() == pytest.approx(1.5764 * xavier, rel=0.02)
    tfixup = build_lm(init_type="tfixup")
    assert start(tfixup, fc1).std().item() == pytest.approx(36**-0.25 * xavier, rel=0.02)
    fixup = build_lm(init_type="fixup")
    assert start(fixup, fc1).std().item() == pytest.approx(12**-0.5 * xavier, rel=0.02)


def test_admin_scales_every_sublayer(build_lm):
    sites = residual_sites(build_lm(decoder_layers=3))
    assert [str(site) for site in sites] == [
        f"decoder layer {layer} {name}" for layer in range(3) for name in ("self_attn", "ffn")
    ]


@pytest.mark.parametrize("name", [n for n, scheme in SCHEMES.items() if not scheme.no_stock_form])
@pytest.mark.parametrize("share", [False, True])
def test_folds_into_fairseqs_own(build_lm, name, share):
    options = {"init_type": name, "share_decoder_input_output_embed": share, "decoder_layers": 3}
    model = move(build_lm(**options)).double()
    config = resolve(AdminLanguageModelConfig(_name="admin_transformer_lm_tiny", **options))
    state = {"args": None, "cfg": {"model": vars(config)}, "model": model.state_dict()}
    stock, _ = fold_checkpoint(state)
    assert stock["cfg"]["model"]["_name"] == "transformer_lm"
    assert not any(".residuals." in key for key in stock["model"])
    assert difference_made(state, stock) < 1e-9
    lm = building.build(stock["cfg"]["model"], stock["model"])
    assert type(lm) is TransformerLanguageModel
