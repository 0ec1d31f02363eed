import copy
from argparse import Namespace

import pytest
import torch
from fairseq.models import FairseqLanguageModel
from fairseq.models.transformer import TransformerConfig
from fairseq.models.transformer_lm import TransformerLanguageModelConfig
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from admin_fairseq.checkpoints import building, compare
from admin_fairseq.checkpoints.fold import difference_made, fold, fold_checkpoint
from admin_fairseq.config import PLUGIN_OPTIONS, AdminTransformerConfig, PluginOptions, resolve
from admin_fairseq.errors import AdminError
from admin_fairseq.layers.transformer_layer import MIRRORED_WEIGHTS
from admin_fairseq.layers.transformer_stack import TransformerDecoder
from admin_fairseq.schemes import SCHEMES
from tests.checkpoints.conftest import move
from tests.conftest import exact_softmax

EMBEDDINGS = {
    "unshared": {},
    "decoder's shared": {"share_decoder_input_output_embed": True},
    "all shared": {"share_all_embeddings": True},
    "learned positions": {"encoder_learned_pos": True, "decoder_learned_pos": True},
    "one learned": {"encoder_learned_pos": True, "share_all_embeddings": True},
    "no positions": {"no_token_positional_embeddings": True},
    "layer norm": {"layernorm_embedding": True, "share_all_embeddings": True},
    "unscaled": {"no_scale_embedding": True},
    "adaptive softmax": {"adaptive_softmax_cutoff": [8, 16]},
}
FOLDING = [name for name, scheme in SCHEMES.items() if not scheme.no_stock_form]


def stock_options(options):
    return {**{k: v for k, v in options.items() if k not in PLUGIN_OPTIONS}, "_name": "transformer"}


def folded_difference(model, options):
    """How far the folded model, built by fairseq itself, is from the one it was made of."""
    folded = fold(model.state_dict(), stock_options(options))
    stock = building.build(folded.options, folded.weights)
    assert type(stock).__module__ == "fairseq.models.transformer.transformer_legacy"
    with exact_softmax():
        return compare.largest_difference(model, stock)


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("embeddings", ["unshared", "all shared"])
@pytest.mark.parametrize(("n", "m"), [(6, 6), (18, 3)])
def test_folded_admin_computes_the_same(trained, n, m, embeddings, dtype, most):
    options = {"encoder_layers": n, "decoder_layers": m, **EMBEDDINGS[embeddings]}
    difference = folded_difference(*trained(dtype=dtype, **options))
    assert 0 < difference <= most


@pytest.mark.parametrize("embeddings", EMBEDDINGS)
def test_first_omega_passes_every_kind_of_embedding(trained, embeddings):
    options = {"encoder_layers": 2, "decoder_layers": 1, **EMBEDDINGS[embeddings]}
    assert folded_difference(*trained(init_type="adaptive", **options)) <= 1e-10


def test_torchscript_reads_what_was_folded(trained):
    model, options = trained(encoder_layers=2, decoder_layers=1, dtype=torch.float32)
    folded = fold(model.state_dict(), stock_options(options))
    stock = building.build(folded.options, folded.weights).eval()
    tokens, lengths = torch.randint(4, 20, (2, 5)), torch.tensor([5, 5])
    logits, _ = torch.jit.script(stock)(tokens, lengths, tokens)
    assert torch.allclose(logits, model(tokens, lengths, tokens)[0], atol=1e-5)


def test_adaptive_softmax_has_no_output_projection_to_untie(trained):
    shared = {"adaptive_softmax_cutoff": [8, 16], "share_decoder_input_output_embed": True}
    assert folded_difference(*trained(encoder_layers=2, decoder_layers=1, **shared)) <= 1e-10


def test_folded_factors_of_norms_are_told_and_none_may_be_missing(trained):
    model, options = trained(init_type="lns", encoder_layers=2, decoder_layers=1)
    weights = model.state_dict()
    folded = fold(weights, stock_options(options), ["scale"])
    assert folded.changes == ["folded the factors of 7 layer norms"]
    del weights["encoder.layers.1.final_layer_norm.scale"]
    with pytest.raises(
        AdminError, match=r"damaged checkpoint: .*1\.final_layer_norm\.scale is miss"
    ):
        fold(weights, stock_options(options), ["scale"])


@pytest.mark.parametrize("init_type", FOLDING)
def test_every_scheme_with_a_stock_form_folds(trained, init_type):
    options = {"init_type": init_type, "encoder_layers": 3, "decoder_layers": 2}
    assert folded_difference(*trained(**options)) <= 1e-10


@pytest.mark.parametrize("arch", ["postln_transformer_tiny", "preln_transformer_tiny"])
@pytest.mark.parametrize("hybrid", [{}, {"decoder_normalize_before": True}])
def test_norm_placements_without_omega_are_stock_already(trained, arch, hybrid):
    model, options = trained(arch, encoder_layers=2, decoder_layers=2, **hybrid)
    assert folded_difference(model, options) == 0
    assert not fold(model.state_dict(), stock_options(options)).changes


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    n=st.integers(1, 5),
    m=st.integers(1, 5),
    heads=st.sampled_from([1, 2, 4]),
    width=st.sampled_from([8, 24]),
    ffn=st.integers(1, 40),
    seed=st.integers(0, 10**6),
    embeddings=st.sampled_from(list(EMBEDDINGS.values())),
    init_type=st.sampled_from(FOLDING),
    activation=st.sampled_from(["relu", "gelu", "tanh"]),
)
def test_any_model(trained, n, m, heads, width, ffn, seed, embeddings, init_type, activation):
    sizes = {
        f"{stack}_{size}": value
        for stack in ("encoder", "decoder")
        for size, value in (
            ("embed_dim", width),
            ("ffn_embed_dim", ffn),
            ("attention_heads", heads),
        )
    }
    options = {"encoder_layers": n, "decoder_layers": m, **sizes, **embeddings}
    model, options = trained(
        seed=seed, init_type=init_type, activation_fn=activation, max_source_positions=60,
        max_target_positions=60, **options,
    )  # fmt: skip
    assert folded_difference(model, options) <= 1e-10


def test_negative_omegas_and_a_shut_gate(trained):
    model, options = trained(encoder_layers=2, decoder_layers=2)
    for name, weight in model.named_parameters():
        if name.endswith("omega"):
            weight.data[::2] *= -1
    assert folded_difference(model, options) <= 1e-10
    model, options = trained(init_type="rezero_postln", encoder_layers=2, decoder_layers=2)
    model.encoder.layers[0].residuals["ffn"].alpha.data.zero_()
    assert folded_difference(model, options) <= 1e-10


def test_the_state_dict_is_exactly_the_stock_models(trained):
    model, options = trained(encoder_layers=2, decoder_layers=1, share_all_embeddings=True)
    folded = fold(model.state_dict(), stock_options(options))
    stock = building.empty_model(folded.options, folded.weights)
    # fairseq 0.12.2 holds some weights twice, and fills in the second ones itself
    expected = {name for name in stock.state_dict() if not name.endswith(MIRRORED_WEIGHTS)}
    assert set(folded.weights) == expected


def test_twice_is_once_and_the_arguments_are_not_touched(trained):
    model, options = trained(encoder_layers=2, decoder_layers=1, share_all_embeddings=True)
    weights, options = model.state_dict(), stock_options(options)
    before = copy.deepcopy((weights, options))
    once = fold(weights, options)
    assert options == before[1]
    assert all(torch.equal(weights[name], weight) for name, weight in before[0].items())
    twice = fold(once.weights, once.options)
    assert twice.options == once.options
    assert twice.changes == []
    assert twice.weights.keys() == once.weights.keys()
    assert all(twice.weights[name] is once.weights[name] for name in once.weights)


def test_omega_of_one_changes_no_bit(build):
    model = build(encoder_layers=2, decoder_layers=1, share_all_embeddings=True)
    weights = model.state_dict()
    folded = fold(weights, {"encoder_layers": 2, "decoder_layers": 1, "share_all_embeddings": True})
    assert folded.options["share_all_embeddings"]
    assert all(folded.weights[name] is weights[name] for name in folded.weights)
    assert weights.keys() - folded.weights.keys() == {n for n in weights if n.endswith("omega")}
    assert folded.changes == ["folded the scales of 4 encoder and 3 decoder sub-layers"]


def test_changes_are_told(trained):
    model, options = trained(encoder_layers=2, decoder_layers=1, share_all_embeddings=True)
    folded = fold(model.state_dict(), stock_options(options))
    assert folded.changes == [
        "folded the scales of 4 encoder and 3 decoder sub-layers",
        "untied the encoder's embeddings from the decoder's",
        "encoder: scaled the token embeddings",
        "encoder: learned positions (1026 rows) now hold the scaled sinusoids",
        "untied the decoder's embeddings from the output projection",
        "decoder: scaled the token embeddings",
        "decoder: learned positions (1026 rows) now hold the scaled sinusoids",
    ]


def test_only_what_must_be_untied_is(trained):
    model, options = trained(encoder_layers=1, decoder_layers=1, share_all_embeddings=True)
    model.decoder.layers[0].residuals["self_attn"].omega.data.fill_(1.0)
    folded = fold(model.state_dict(), stock_options(options))
    assert not folded.options["share_all_embeddings"]
    assert folded.options["share_decoder_input_output_embed"]
    assert not folded.options["decoder_learned_pos"]
    assert folded_difference(model, options) <= 1e-10


def test_half_precision_weights_are_folded_into_float32(trained):
    model, options = trained(encoder_layers=2, decoder_layers=1)
    half = {name: weight.half() for name, weight in model.state_dict().items()}
    folded = fold(half, stock_options(options))
    before = building.build(options, half)
    after = building.build(folded.options, folded.weights)
    assert 0 < compare.largest_difference(before, after) <= 1e-5
    assert folded.weights["encoder.layers.0.fc1.weight"].dtype == torch.float32
    assert folded.weights["encoder.layers.0.fc2.weight"].dtype == torch.float16  # not touched


@pytest.mark.parametrize("dim", [32, 16])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("scheme", ["adaptive", "rezero_postln", "deepnet"])
def test_decoder_only(task, scheme, shared, dim):
    options = {
        "decoder_layers": 3,
        "decoder_embed_dim": 32,
        "decoder_input_dim": dim,  # 16: maps between the embeddings and the layers
        "decoder_output_dim": dim,
        "decoder_ffn_embed_dim": 40,
        "decoder_attention_heads": 4,
        "share_decoder_input_output_embed": shared,
        "max_target_positions": 50,
    }
    ours = {**vars(PluginOptions()), "init_type": scheme}
    cfg = TransformerConfig.from_namespace(Namespace(**{**ours, **options}))
    embeddings = torch.nn.Embedding(len(task.target_dictionary), dim, padding_idx=1)
    ours = FairseqLanguageModel(
        TransformerDecoder(cfg, task.target_dictionary, embeddings, no_encoder_attn=True)
    )
    move(ours).double()
    stock = {k: v for k, v in vars(TransformerLanguageModelConfig()).items() if k != "_name"}
    folded = fold(ours.state_dict(), {**stock, **options, "_name": "transformer_lm"})
    lm = building.build(folded.options, folded.weights)
    assert type(lm).__name__ == "TransformerLanguageModel"
    assert 0 < compare.largest_difference(ours, lm) <= 1e-10
    assert folded.changes[0] == "folded the scales of 6 decoder sub-layers"


ENCODER_OMEGA = "encoder.layers.1.residuals.ffn.omega"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w[ENCODER_OMEGA][3].fill_(0.0), f"{ENCODER_OMEGA} is zero somewhere"),
        (lambda w: w[ENCODER_OMEGA][3].fill_(float("nan")), f"{ENCODER_OMEGA} is not finite"),
        (lambda w: w[ENCODER_OMEGA][3].fill_(float("inf")), f"{ENCODER_OMEGA} is not finite"),
        (lambda w: w[ENCODER_OMEGA].fill_(1e-310), r"layers.1.fc1.weight would become too large"),
        (lambda w: w["encoder.layers.0.fc2.bias"].fill_(float("inf")), "fc2.bias is not finite"),
        (
            lambda w: w.update({ENCODER_OMEGA: torch.ones(3)}),
            rf"{ENCODER_OMEGA} is \(3,\), not \(64,\)",
        ),
        (lambda w: w.pop("encoder.layers.1.fc1.weight"), "encoder.layers.1.fc1.weight is missing"),
        (
            lambda w: w.pop("decoder.layers.0.self_attn_layer_norm.bias"),
            "decoder.layers.0.self_attn_layer_norm.bias is missing",
        ),
        (lambda w: w.pop(ENCODER_OMEGA), f"damaged checkpoint: {ENCODER_OMEGA} is missing"),
        (
            lambda w: w.update({"encoder.layers.0.residuals.ffn.beta": torch.ones(1)}),
            "encoder.layers.0.residuals.ffn.beta has no equivalent",
        ),
    ],
)
def test_weights_that_cannot_be_folded(trained, change, message):
    model, options = trained(encoder_layers=2, decoder_layers=1)
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    change(weights)
    with pytest.raises(AdminError, match=message) as error:
        fold(weights, stock_options(options))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"merge_src_tgt_embed": True}, "--merge-src-tgt-embed ties embeddings"),
        ({"quant_noise_pq": 0.1}, "--quant-noise-pq"),
        ({"quant_noise_pq": 0.1, "layernorm_embedding": True}, "--quant-noise-pq"),
        ({"encoder_normalize_before": True}, "Pre-LN encoder"),
    ],
)
def test_options_without_an_exact_form(trained, option, message):
    model, options = trained(encoder_layers=1, decoder_layers=1)
    with pytest.raises(AdminError, match=message):
        fold(model.state_dict(), {**stock_options(options), **option})


@pytest.fixture
def checkpoint(trained):
    def checkpoint(**options):
        model, options = trained(encoder_layers=2, decoder_layers=1, **options)
        return {
            "args": None,
            "cfg": {"model": options, "common": {"user_dir": "admin_fairseq", "seed": 3}},
            "model": model.state_dict(),
            "optimizer_history": [{"num_updates": 7}],
            "extra_state": {"train_iterator": {"epoch": 2}, "metrics": []},
            "last_optimizer_state": {"state": {}},
        }

    return checkpoint


def test_a_folded_checkpoint_needs_nothing_of_the_plugin(checkpoint):
    state = checkpoint()
    stock, changes = fold_checkpoint(state)
    assert stock["cfg"]["model"]["_name"] == "transformer"
    assert not PLUGIN_OPTIONS & stock["cfg"]["model"].keys()
    assert stock["cfg"]["common"] == {"user_dir": None, "seed": 3}
    assert "last_optimizer_state" not in stock
    assert stock["optimizer_history"] == [{"num_updates": 7}]
    assert changes
    assert difference_made(state, stock) <= 1e-10
    assert fold_checkpoint(stock) == (stock, [])


@pytest.mark.parametrize("init_type", ["adaptive", "deepnet", "rezero_postln"])
def test_a_scheme_without_its_scales_is_damaged(checkpoint, init_type):
    state = checkpoint(init_type=init_type)
    state["model"] = {k: v for k, v in state["model"].items() if ".residuals." not in k}
    with pytest.raises(AdminError, match=r"encoder.layers.0.residuals.self_attn.\w+ is missing"):
        fold_checkpoint(state)


def test_files_of_embeddings_are_not_needed_any_more(checkpoint):
    state = checkpoint()
    state["cfg"]["model"]["encoder_embed_path"] = "/nowhere"
    stock, _ = fold_checkpoint(state)
    assert stock["cfg"]["model"]["encoder_embed_path"] is None


def test_checkpoints_of_older_fairseq_fold_too(checkpoint):
    state = checkpoint()
    options = {**state["cfg"]["model"], "arch": "admin_transformer", "task": "translation"}
    del options["_name"]
    stock, _ = fold_checkpoint({**state, "args": Namespace(**options), "cfg": None})
    assert stock["args"] is None
    assert stock["cfg"]["model"] == fold_checkpoint(state)[0]["cfg"]["model"]
    assert stock["cfg"]["task"]["_name"] == "translation"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"init_type": "magic"}, "unknown --init-type magic"),
        ({"encoder_layers": "two"}, "--encoder-layers takes"),
        ({"encoder_layers": 10**9}, "--encoder-layers takes"),
        ({"encoder_normalize_before": True}, "--encoder-normalize-before asks for Pre-LN"),
        ({"activation_fn": "magic"}, "no model can be built"),
    ],
)
def test_damaged_options_are_told(checkpoint, option, message):
    state = checkpoint()
    state["cfg"]["model"].update(option)
    with pytest.raises(AdminError, match=message):
        fold_checkpoint(state)


def test_what_fairseq_could_not_load_is_not_folded(checkpoint):
    state = checkpoint()
    del state["model"]["decoder.layers.0.fc1.bias"]
    with pytest.raises(AdminError, match=r"^weights do not fit .*decoder.layers.0.fc1.bias"):
        fold_checkpoint(state)


def test_check_refuses_a_model_that_differs(checkpoint):
    state = checkpoint()
    stock, _ = fold_checkpoint(state)
    weights = stock["model"]
    weights["encoder.layers.0.fc1.bias"] = weights["encoder.layers.0.fc1.bias"] + 0.5
    with pytest.raises(AdminError, match=r"^the folded model differs by 0\.\d+"):
        difference_made(state, stock)


@pytest.mark.parametrize("init_type", [name for name in SCHEMES if name not in FOLDING])
def test_schemes_without_a_stock_form_say_why(checkpoint, init_type):
    scheme = SCHEMES[init_type]
    with pytest.raises(AdminError) as error:
        fold_checkpoint(checkpoint(init_type=init_type))
    assert f"{scheme.title} (--init-type {init_type})" in str(error.value)
    assert f"no stock form: {scheme.no_stock_form}" in str(error.value)


def test_a_half_grown_branchnorm_folds_as_it_is(build):
    """α is what training left it at, not 1."""
    model = build(init_type="branchnorm", encoder_layers=2, decoder_layers=2).double().eval()
    model.set_num_updates(1000)
    options = vars(
        resolve(
            AdminTransformerConfig(
                _name="admin_transformer_tiny",
                **{"init_type": "branchnorm", "encoder_layers": 2, "decoder_layers": 2},
            )
        )
    )
    weights = fold(model.state_dict(), stock_options(options)).weights
    name = "encoder.layers.0.fc2.weight"
    assert torch.allclose(weights[name], 0.25 * model.state_dict()[name])
    assert folded_difference(model, options) < 1e-10


def test_other_models_are_refused(checkpoint):
    state = checkpoint()
    state["cfg"]["model"]["_name"] = "lstm"
    with pytest.raises(AdminError, match="cannot fold a model of architecture lstm"):
        fold_checkpoint(state)
