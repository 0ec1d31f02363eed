"""Encoder-only models: fairseq's own with every scheme."""

import math
import re
from argparse import Namespace

import pytest
import torch
from fairseq.models import build_model
from fairseq.models.roberta import RobertaModel
from torch.nn.functional import cross_entropy

from admin_fairseq.checkpoints import building
from admin_fairseq.checkpoints.fold import difference_made, fold_checkpoint
from admin_fairseq.config import AdminMaskedLanguageModelConfig, resolve
from admin_fairseq.errors import AdminError
from admin_fairseq.hooks.recorder import residual_sites
from admin_fairseq.layers.transformer_layer import MIRRORED_WEIGHTS
from admin_fairseq.schemes import AS_FAIRSEQ, BASE_WEIGHTS, HEAD_WEIGHTS, SCHEMES
from tests.checkpoints.conftest import move
from tests.conftest import HALF, held
from tests.models.test_language_model import start

ROBERTA = {"encoder_learned_pos": True, "layernorm_embedding": True, "no_scale_embedding": True}
"""The options that make it fairseq's roberta, in which they are the default."""


@pytest.fixture
def build_mlm(task):
    def build_mlm(arch="admin_transformer_mlm_tiny", **options):
        return build_model(AdminMaskedLanguageModelConfig(_name=arch, **options), task)

    return build_mlm


@pytest.fixture
def tokens(batch):
    return batch["prev_output_tokens"]


@pytest.mark.parametrize("pre", [False, True])
@pytest.mark.parametrize("given", [{}, ROBERTA])
def test_logits_and_gradients_equal_stock_bit_for_bit(build_mlm, task, tokens, pre, given):
    arch = "preln_transformer_mlm_tiny" if pre else "postln_transformer_mlm_tiny"
    ours = build_mlm(arch, encoder_layers=3, reference_kernels=True, **given).double()
    config = resolve(AdminMaskedLanguageModelConfig(_name=arch, encoder_layers=3, **given))
    stock = {"encoder_layers_to_keep": None, "max_positions": config.max_positions}
    theirs = RobertaModel.build_model(Namespace(**{**vars(config), **stock}), task).double()
    copy(ours, theirs)
    found = []
    for model in (ours, theirs):
        torch.manual_seed(4)
        logits, _ = model.train()(tokens, masked_tokens=tokens.ne(1))
        logits.square().mean().backward()
        found.append((logits, {name: p.grad for name, p in model.named_parameters()}))
    assert torch.equal(found[0][0], found[1][0])
    for name, gradient in found[0][1].items():
        assert torch.equal(gradient, found[1][1][as_roberta(name)]), name


def as_roberta(name):
    """A name in our state dict → in roberta's."""
    name = re.sub(r"^encoder\.", "encoder.sentence_encoder.", name)
    return re.sub(r"^lm_head\.", "encoder.lm_head.", name)


def copy(ours, theirs):
    """Load our weights into a roberta, which has no others, but for fairseq 0.12.2's copies."""
    weights = {as_roberta(name): weight for name, weight in ours.state_dict().items()}
    names = theirs.state_dict().keys() - weights.keys()
    assert {name.rpartition(".")[2] for name in names} <= set(MIRRORED_WEIGHTS)
    theirs.load_state_dict({**theirs.state_dict(), **weights}, strict=True)


@pytest.mark.parametrize("name", SCHEMES)
def test_thirty_updates_lower_the_loss(build_mlm, tokens, name):
    torch.manual_seed(1)
    options = {"branchnorm_updates": 10} if name == "branchnorm" else {}
    model = build_mlm(init_type=name, dropout=0.0, encoder_layers=2, **options)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    masked = torch.zeros_like(tokens, dtype=torch.bool)
    masked[:, 1::2] = tokens[:, 1::2].ne(1)
    source, losses = tokens.masked_fill(masked, 4), []
    for update in range(30):
        model.set_num_updates(update)
        logits, _ = model(source, masked_tokens=masked)
        loss = cross_entropy(logits, tokens[masked])
        optimizer.zero_grad()
        loss.backward()
        if not update:
            gradients = [p.grad for p in model.parameters() if p.requires_grad]
            assert all(g is not None and torch.isfinite(g).all() for g in gradients)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_a_word_sees_what_follows_it_but_no_padding(build_mlm, tokens):
    model = move(build_mlm(encoder_layers=2)).double()
    other = tokens.clone()
    other[:, 3:] = tokens[:, 3:].flip(0)
    assert not torch.allclose(model(tokens)[0][:, :3], model(other)[0][:, :3])
    longer = torch.cat([tokens, torch.ones_like(tokens)], 1)  # 1: padding
    real = tokens.ne(1)
    alone, padded = model(tokens)[0][real], model(longer)[0][:, : tokens.size(1)][real]
    assert torch.allclose(alone, padded, rtol=1e-12, atol=1e-12)


def test_outputs_for_the_criterion_and_for_features(build_mlm, tokens):
    model = build_mlm().eval()
    masked = tokens.eq(tokens[0, 1])
    logits = model(tokens)[0]
    assert logits.shape == (*tokens.shape, 24)
    assert torch.allclose(model(tokens, masked_tokens=masked)[0], logits[masked], atol=1e-5)
    probabilities = model.get_normalized_probs((logits, None), log_probs=False)
    assert torch.allclose(probabilities.sum(-1), torch.ones(tokens.shape))
    found = model.get_normalized_probs((logits, None), log_probs=True)
    assert torch.allclose(found.exp(), probabilities)
    features, extra = model(tokens, features_only=True, return_all_hiddens=True)
    assert features.shape == (*tokens.shape, 64) and len(extra["inner_states"]) == 7


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", ["adaptive", "rezero", "subln", "resi_dual"])
def test_half_precision_is_near_full(build_mlm, tokens, name, dtype):
    torch.manual_seed(1)
    model = move(build_mlm(init_type=name, encoder_layers=2))
    full = model(tokens)[0][tokens.ne(1)]
    half = model.to(dtype)(tokens)[0][tokens.ne(1)]
    assert half.dtype is dtype
    assert (half.float() - full).std() < 0.05 * full.std()


def test_autocast_reaches_the_head(build_mlm, tokens):
    model = build_mlm(autocast="bfloat16").eval()
    logits, features = model(tokens)[0], model(tokens, features_only=True)[0]
    error = (model.lm_head(features) - logits).abs().max()
    assert 1e-4 < error / logits.std() < 0.1


def test_schemes_count_two_sublayers_a_layer(build_mlm):
    """Pinned at 6 layers, n = 12."""
    omega = r".*\.omega"
    fc1 = r".*\.fc1\.weight"
    xavier = math.sqrt(2 / 192)
    deepnet = build_mlm(init_type="deepnet")
    assert start(deepnet, omega).unique().item() == pytest.approx(1.8612, abs=5e-5)
    assert start(deepnet, fc1).std().item() == pytest.approx(0.3799 * xavier, rel=0.02)
    admin_torch = build_mlm(init_type="admin-torch")
    assert start(admin_torch, omega).unique().item() == pytest.approx(2.0170, abs=5e-5)
    keel = build_mlm(init_type="keel")
    assert start(keel, omega).unique().tolist() == [1, 12]
    completep = build_mlm(init_type="completep", completep_base_layers=3)
    assert start(completep, r".*\.alpha").unique().item() == 0.5
    for name, factor in (
        ("subln", 1.5764),  # sqrt(ln 12)
        ("tfixup", 0.4281),  # 0.67 / 6^¼
        ("fixup", 12**-0.5),
        ("b2t", 6**-0.5 * 2**-0.5),  # torch's own, U(±1/√64)
    ):
        model = build_mlm(init_type=name)
        assert start(model, fc1).std().item() == pytest.approx(factor * xavier, rel=0.02), name


def test_head_and_embeddings_start_with_variance_one_over_the_width(build_mlm):
    model = build_mlm()
    assert model.lm_head.weight is model.encoder.embed_tokens.weight
    for weight in (model.lm_head.dense.weight, model.lm_head.weight):
        assert weight.std().item() == pytest.approx(64**-0.5, rel=0.05)
    assert not model.lm_head.dense.bias.any() and not model.lm_head.bias.any()


def test_berts_draw_replaces_the_base_and_leaves_the_schemes_own_rules(build_mlm):
    plain = build_mlm(bert_init=True, encoder_learned_pos=True)
    for name, weight in plain.named_parameters():
        if "norm" not in name and weight.dim() == 2:
            assert weight.std().item() == pytest.approx(0.02, rel=0.06), name
        elif name.endswith("bias"):
            assert not weight.any(), name
    tfixup = build_mlm(init_type="tfixup", bert_init=True)
    assert start(tfixup, r".*\.fc1\.weight").std().item() == pytest.approx(0.02 * 0.4281, rel=0.02)
    deepnet = build_mlm(init_type="deepnet", bert_init=True)
    xavier = math.sqrt(2 / 192)
    fc1 = start(deepnet, r".*\.fc1\.weight").std().item()
    assert fc1 == pytest.approx(0.3799 * xavier, rel=0.02)


def test_every_parameter_of_the_head_comes_from_a_rule_or_is_as_built(build_mlm):
    patterns = [*(rule.pattern for rule in HEAD_WEIGHTS + BASE_WEIGHTS), *AS_FAIRSEQ]
    for parameter in held(build_mlm(init_type="default", layernorm_embedding=True)):
        assert any(re.fullmatch(pattern, parameter) for pattern in patterns), parameter


def test_admin_scales_every_sublayer(build_mlm):
    sites = residual_sites(build_mlm(encoder_layers=3))
    assert [str(site) for site in sites] == [
        f"encoder layer {layer} {name}" for layer in range(3) for name in ("self_attn", "ffn")
    ]


@pytest.mark.parametrize(
    ("name", "given"),
    [*((n, {}) for n, s in SCHEMES.items() if not s.no_stock_form), ("adaptive", ROBERTA)],
)
def test_folds_into_roberta(build_mlm, name, given):
    options = {"init_type": name, "encoder_layers": 2, **given}
    model = move(build_mlm(**options)).double()
    config = resolve(AdminMaskedLanguageModelConfig(_name="admin_transformer_mlm_tiny", **options))
    state = {"args": None, "cfg": {"model": vars(config)}, "model": model.state_dict()}
    stock, _ = fold_checkpoint(state)
    assert stock["cfg"]["model"]["_name"] == "roberta"
    assert not any(".residuals." in key for key in stock["model"])
    assert difference_made(state, stock) < 1e-9
    roberta = building.build(stock["cfg"]["model"], stock["model"])
    assert type(roberta) is RobertaModel
    again, changes = fold_checkpoint(stock)
    assert again["model"].keys() == stock["model"].keys() and not changes


def fine_tuned(build_mlm, classes=3, head="topic", **options):
    model = build_mlm(**{"encoder_layers": 2, **options})
    model.register_classification_head(head, classes)
    return move(model)


def test_a_classification_head_equals_robertas(build_mlm, task, tokens):
    options = {"encoder_layers": 2, "pooler_activation_fn": "relu", **ROBERTA}
    name = "postln_transformer_mlm_tiny"
    ours = fine_tuned(build_mlm, arch=name, reference_kernels=True, **options)
    config = vars(resolve(AdminMaskedLanguageModelConfig(_name=name, **options)))
    theirs = RobertaModel.build_model(Namespace(**config, encoder_layers_to_keep=None), task)
    theirs.register_classification_head("topic", 3)
    copy(ours, theirs)
    models = [building.for_inference(model) for model in (ours, theirs)]
    found = [model(tokens, classification_head_name="topic")[0] for model in models]
    assert found[0].shape == (len(tokens), 3) and torch.equal(*found)


def test_finetuning_takes_the_encoder_and_keeps_the_new_head(build_mlm, caplog):
    trained, model = move(build_mlm(encoder_layers=2)), fine_tuned(build_mlm)
    new = {name: w.clone() for name, w in model.classification_heads.state_dict().items()}
    with caplog.at_level("INFO"):
        model.load_state_dict(trained.state_dict(), strict=True)
    assert all(torch.equal(w, new[n]) for n, w in model.classification_heads.state_dict().items())
    assert torch.equal(model.encoder.layers[1].fc1.weight, trained.encoder.layers[1].fc1.weight)
    assert "head topic is new" in caplog.text


@pytest.mark.parametrize(
    ("classes", "head", "kept"), [(3, "topic", True), (4, "topic", False), (3, "other", False)]
)
def test_a_head_of_another_task_is_left_out_with_a_warning(build_mlm, caplog, classes, head, kept):
    state, model = fine_tuned(build_mlm).state_dict(), fine_tuned(build_mlm, classes, head)
    model.load_state_dict(dict(state), strict=True)
    found = model.classification_heads.state_dict()[f"{head}.dense.weight"]
    assert torch.equal(found, state["classification_heads.topic.dense.weight"]) is kept
    assert ("left out the checkpoint's classification head topic" in caplog.text) is not kept


@pytest.mark.parametrize("head", ["topic", "forward"])
def test_all_heads_can_be_loaded_but_none_whose_name_is_taken(build_mlm, head):
    state = fine_tuned(build_mlm).state_dict()
    state = {name.replace(".topic.", f".{head}."): weight for name, weight in state.items()}
    model = build_mlm(encoder_layers=2, load_checkpoint_heads=True)
    model.load_state_dict(state, strict=True)
    assert list(model.classification_heads) == ["topic"][: head == "topic"]


def test_folding_keeps_classification_heads(build_mlm, tokens):
    model = fine_tuned(build_mlm, init_type="adaptive").double()
    config = resolve(AdminMaskedLanguageModelConfig(
        _name="admin_transformer_mlm_tiny", encoder_layers=2, init_type="adaptive"
    ))  # fmt: skip
    state = {"args": None, "cfg": {"model": vars(config)}, "model": model.state_dict()}
    stock, _ = fold_checkpoint(state)
    roberta = building.build(stock["cfg"]["model"], stock["model"])
    ours = building.build(vars(config), state["model"])
    found = [m(tokens, classification_head_name="topic")[0] for m in (model, ours, roberta)]
    assert torch.equal(found[0], found[1])
    assert torch.allclose(found[0], found[2], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["", "a.b", "keys", "training"])
def test_names_that_no_head_can_have(build_mlm, name):
    with pytest.raises(AdminError, match="--classification-head-name"):
        build_mlm(encoder_layers=1).register_classification_head(name, 2)
