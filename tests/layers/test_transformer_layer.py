"""Our layers against fairseq's: same weights, same numbers."""

from contextlib import nullcontext

import pytest
import torch
from fairseq.models.transformer import TransformerModelBase
from fairseq.modules import FairseqDropout

from admin_fairseq.config import AdminTransformerConfig, apply_architecture
from admin_fairseq.errors import AdminError
from admin_fairseq.hooks.recorder import residual_sites
from admin_fairseq.layers.transformer_stack import on_reference_kernels
from admin_fairseq.modules import residual as residuals
from admin_fairseq.modules.connections import DualStream
from admin_fairseq.modules.residual import Residual, ScaledResidual
from admin_fairseq.schemes import SCHEMES, Norm, Scheme

from ..conftest import HALF, held, wants_more_than_torch_2_1


def options(arch="postln_transformer_tiny", **given):
    config = AdminTransformerConfig(
        **{"_name": arch, "encoder_layers": 3, "decoder_layers": 2, **given}
    )
    apply_architecture(config, config._name)
    return config


@pytest.fixture
def stock(task):
    def build(config):
        """fairseq's own model, float64, every parameter random: ones and zeros hide mistakes."""
        model = TransformerModelBase.build_model(config.nested(), task).double()
        torch.manual_seed(7)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        return model

    return build


def loss_and_gradients(model, batch, seed=5):
    """Logits and gradients of one step in training mode, dropout on."""
    torch.manual_seed(seed)
    model.train()
    model.zero_grad()
    logits, _ = model(**batch)
    logits.square().mean().backward()
    return logits, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def assert_same_step(ours, stock, batch):
    logits, gradients = loss_and_gradients(ours, batch)
    expected_logits, expected_gradients = loss_and_gradients(stock, batch)
    assert torch.equal(logits, expected_logits)
    for name, gradient in gradients.items():
        assert torch.equal(gradient, expected_gradients[name]), name


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"arch": "preln_transformer_tiny"},
        {"encoder_normalize_before": True},
        {"decoder_normalize_before": True},
        {"share_all_embeddings": True, "layernorm_embedding": True, "encoder_learned_pos": True},
        {"activation_fn": "gelu", "activation_dropout": 0.2, "attention_dropout": 0.3},
        {"no_cross_attention": True},
        {"checkpoint_activations": True},
        {"encoder_embed_dim": 32, "decoder_embed_dim": 64},
    ],
    ids=lambda given: ",".join(given) or "postln",
)
def test_logits_and_gradients_equal_stock_bit_for_bit(given, build, stock, batch):
    config = options(**given)
    theirs = stock(config)
    sizes = {"encoder_layers": 3, "decoder_layers": 2, "reference_kernels": True}
    ours = build(**{**sizes, **given, "arch": config._name}).double()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    assert_same_step(ours, theirs, batch)


def test_admin_with_omega_one_is_postln(build, stock, batch):
    theirs = stock(options())
    sizes = {"encoder_layers": 3, "decoder_layers": 2, "reference_kernels": True}
    ours = build("admin_transformer_tiny", **sizes).double()
    for residual in residual_sites(ours).values():
        residual.omega.data.fill_(2.0)
    ours.load_state_dict(theirs.state_dict(), strict=True)  # ω, which is missing there, becomes 1
    logits, gradients = loss_and_gradients(ours, batch)
    expected, expected_gradients = loss_and_gradients(theirs, batch)
    assert torch.allclose(logits, expected, rtol=1e-12, atol=1e-12)
    for name, gradient in expected_gradients.items():
        assert torch.allclose(gradients[name], gradient, rtol=1e-9, atol=1e-12), name


def test_omega_gets_a_gradient_and_changes_the_output(build, batch):
    model = build("admin_transformer_tiny", encoder_layers=2, decoder_layers=2).double().eval()
    before = model(**batch)[0]
    model(**batch)[0].square().mean().backward()
    for site, residual in residual_sites(model).items():
        assert residual.omega.grad.abs().sum() > 0, site
        with torch.no_grad():
            residual.omega.mul_(2)
    assert not torch.allclose(before, model(**batch)[0])


def moved(model, seed=3):
    """Away from the start, where gates are shut and branches are zero."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in held(model).values():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


class Shifted(ScaledResidual):
    """A stranger's way of joining, made from one that has a kernel."""

    def forward(self, x, branch):
        return super().forward(x, branch) + x.roll(1, -1)


SHIFTED = Scheme("shifted", "no paper", 2026, Norm.POST, Shifted)
FUSED = ("default", "adaptive", "admin-torch", "deepnet", "looklinear", "dsinit", "lipschitz")


def has_kernel(model):
    layer = model.encoder.layers[0]
    if isinstance(getattr(model.encoder, "connections", None), DualStream):
        return False
    norms = [layer.norms_around(name) for name in layer.norms]
    following = [before for before, _ in norms[1:]] + [None]
    for residual, (_, after), then in zip(layer.residuals.values(), norms, following):
        name = "norm" if after is not None else "sum_and_norm"
        norm = then if after is None else after
        own = getattr(type(residual), name) is not getattr(Residual, name)
        if own and isinstance(norm, torch.nn.LayerNorm):
            return True
    return False


@wants_more_than_torch_2_1("today's Triton finds no interpreter beside it")
@pytest.mark.parametrize("scheme", [*SCHEMES, "shifted"])
def test_a_step_on_kernels_equals_one_on_reference_kernels(scheme, build, batch, monkeypatch):
    """Triton's interpreter runs the kernels of every residual that has one."""
    pytest.importorskip("triton", reason="Triton is not installed")
    monkeypatch.setitem(SCHEMES, "shifted", SHIFTED)
    launched = []
    monkeypatch.setattr(residuals, "fuses", lambda x, branch: not launched.append(x))
    model = moved(build(init_type=scheme, encoder_layers=1, decoder_layers=1, dropout=0.0))
    found = step(model, batch)
    assert bool(launched) is has_kernel(model)
    assert launched or not scheme.startswith(FUSED)
    with on_reference_kernels(model):
        expected = step(model, batch)
    assert found.keys() == expected.keys()
    largest = max(float(value.abs().max()) for value in expected.values())
    for name, value in found.items():
        assert torch.allclose(value, expected[name], rtol=0, atol=1e-5 * largest), name


def step(model, batch):
    """Logits of real tokens, and the gradients of a loss of theirs."""
    model.train()
    model.zero_grad()
    real = batch["prev_output_tokens"].ne(model.decoder.padding_idx)
    logits = model(**batch)[0][real]
    logits.square().mean().backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {"logits": logits.detach(), **gradients}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_decoding_step_by_step_equals_decoding_at_once(scheme, build, batch):
    model = moved(build(init_type=scheme, encoder_layers=2, decoder_layers=2)).double().eval()
    encoded = model.encoder(batch["src_tokens"], batch["src_lengths"])
    tokens = batch["prev_output_tokens"]
    whole, extra = model.decoder(tokens, encoder_out=encoded)
    assert extra["attn"][0].shape == (*tokens.shape, batch["src_tokens"].shape[1])
    state = {}
    for t in range(1, tokens.shape[1] + 1):
        step, _ = model.decoder(tokens[:, :t], encoder_out=encoded, incremental_state=state)
        real = tokens[:, t - 1].ne(model.decoder.padding_idx)
        # 1e-5: fairseq computes sinusoidal positions in float32
        assert torch.allclose(step[real, 0], whole[real, t - 1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_trains(scheme, dtype, build, batch):
    model = moved(build(init_type=scheme, encoder_layers=2, decoder_layers=1)).to(dtype)
    logits, gradients = loss_and_gradients(model, batch)
    assert logits.dtype == dtype and torch.isfinite(logits).all()
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_activation_checkpointing_changes_nothing(scheme, build, batch):
    """Layers run a second time in the backward pass."""
    gradients = []
    for checkpointing in (False, True):
        options = {"checkpoint_activations": checkpointing, "encoder_layers": 2}
        torch.manual_seed(2)
        model = moved(build(init_type=scheme, decoder_layers=2, **options)).double()
        gradients.append(loss_and_gradients(model, batch)[1])
    assert set(gradients[0]) == set(gradients[1])
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], rtol=1e-9, atol=1e-14), name


def test_b2t_adds_the_layers_input_before_its_last_norm(build, stock, batch):
    """One layer by hand, from fairseq's own Post-LN parts."""
    model = moved(build(init_type="b2t", encoder_layers=1, decoder_layers=1)).double().eval()
    layer = model.encoder.layers[0]
    x = torch.randn(5, 2, 64, dtype=torch.float64)
    attended = layer.self_attn(x, x, x, need_weights=False)[0]
    middle = layer.self_attn_layer_norm(x + attended)
    expected = layer.final_layer_norm(x + middle + layer.feed_forward(middle))
    assert torch.allclose(layer(x, None), expected, rtol=1e-12)

    decoder, memory = model.decoder.layers[0], torch.randn(3, 2, 64, dtype=torch.float64)
    attended = decoder.self_attn(x, x, x, need_weights=False)[0]
    first = decoder.self_attn_layer_norm(x + attended)
    attended = decoder.encoder_attn(first, memory, memory, static_kv=True)[0]
    second = decoder.encoder_attn_layer_norm(first + attended)
    expected = decoder.final_layer_norm(x + second + decoder.feed_forward(second))
    assert torch.allclose(decoder(x, memory)[0], expected, rtol=1e-12)


def test_subln_norms_what_a_branchs_last_map_reads(build):
    model = moved(build(init_type="subln", encoder_layers=1, decoder_layers=1)).double().eval()
    layer = model.encoder.layers[0]
    x = torch.randn(5, 2, 64, dtype=torch.float64)
    hidden = layer.fc2.before(torch.relu(layer.fc1(x)))
    linear = torch.nn.functional.linear
    assert torch.allclose(layer.feed_forward(x), linear(hidden, layer.fc2.weight, layer.fc2.bias))
    assert hidden.shape[-1] == 128 and layer.fc2.before.weight.shape == (128,)
    assert layer.self_attn.out_proj.before.weight.shape == (64,)


@pytest.mark.parametrize("scheme", [name for name in SCHEMES if not SCHEMES[name].norm.after])
def test_residual_stream_stays_in_float32_under_autocast(scheme, build, stock):
    """As in fairseq's own Pre-LN."""
    before = {} if scheme in ("subln", "dlcl") else {"encoder_normalize_before": True}
    if SCHEMES[scheme].norm is Norm.NONE:
        before = {}
    layer = build(init_type=scheme, encoder_layers=1, **before).encoder.layers[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(5, 2, 64), encoder_padding_mask=None).dtype == torch.float32


@pytest.mark.parametrize("scheme", SCHEMES)
def test_stacks_of_different_widths(scheme, build, batch):
    widths = {"encoder_embed_dim": 32, "encoder_ffn_embed_dim": 48, "decoder_embed_dim": 64}
    model = moved(build(init_type=scheme, encoder_layers=2, decoder_layers=1, **widths))
    logits, gradients = loss_and_gradients(model, batch)
    assert torch.isfinite(logits).all()
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert set(gradients) == trained


@pytest.mark.parametrize("dtype", HALF)
def test_large_sums_in_the_residual_stream_do_not_overflow(dtype, build):
    layer = build("admin_transformer_tiny", encoder_layers=1).to(dtype).encoder.layers[0].eval()
    layer.residuals["ffn"].omega.data.fill_(3.0)
    x = torch.randn(5, 2, 64).clamp(-1, 1).mul(6e4).to(dtype).requires_grad_()
    out = layer.sublayer("ffn", x, torch.clone)[0]  # 4 x is beyond 65504
    out.sum().backward()
    assert out.dtype == dtype and torch.isfinite(out).all() and torch.isfinite(x.grad).all()
    exact = torch.nn.functional.layer_norm(4 * x.detach().double(), (64,))
    assert (out - exact).abs().max() < 0.02


@pytest.mark.parametrize("dtype", HALF)
def test_large_values_pass_through_a_preln_layer(dtype, build):
    layer = build("preln_transformer_tiny", encoder_layers=1).to(dtype).encoder.layers[0].eval()
    x = torch.randn(5, 2, 64).clamp(-1, 1).mul(6e4).to(dtype)
    out = layer(x, encoder_padding_mask=None)
    assert out.dtype == dtype and torch.isfinite(out).all()


def test_dropout_can_be_retained_by_the_names_of_fairseqs_modules(build, stock):
    """As --retain-dropout-modules does."""

    def names(model):
        return {n: m.module_name for n, m in model.named_modules() if isinstance(m, FairseqDropout)}

    found = names(build("postln_transformer_tiny", encoder_layers=3, decoder_layers=2))
    assert "MultiheadAttention" in found.values() and found == names(stock(options()))


@pytest.mark.parametrize("asked", [False, True])
def test_the_other_form_of_sub_ln_is_told_in_one_line(build, asked):
    """A checkpoint of the one does not fit the other; one of another scheme is not its matter."""
    forms = [
        build("subln_transformer_tiny", decoder_layers=1, subln_in_encoder_attention=form)
        for form in (not asked, asked)
    ]
    saved, model = forms[0].state_dict(), forms[1]
    word = "leave out" if asked else "add"
    with pytest.raises(AdminError, match=f"{word} --subln-in-encoder-attention$") as error:
        model.load_state_dict(saved)
    assert "\n" not in str(error.value)
    with pytest.raises(RuntimeError, match=r"self_attn\.out_proj\.before"):
        build("preln_transformer_tiny", decoder_layers=1).load_state_dict(saved)


# Layers of schemes with norms in other places, by hand


def attended(layer, x):
    return layer.self_attn(x, x, x, need_weights=False)[0]


def one_layer(build, init_type, index=0, **options):
    """A layer of an encoder with two, away from the start, and an input."""
    model = moved(build(init_type=init_type, encoder_layers=2, **options)).double().eval()
    return model.encoder.layers[index], torch.randn(5, 2, 64, dtype=torch.float64)


def test_periln_norms_input_and_output_of_branches(build):
    layer, x = one_layer(build, "periln")
    branch = attended(layer, layer.self_attn_layer_norm(x))
    x1 = x + layer.output_norms["self_attn"](branch)
    branch = layer.feed_forward(layer.final_layer_norm(x1))
    assert torch.allclose(layer(x), x1 + layer.output_norms["ffn"](branch), rtol=1e-12)


def test_keel_begins_as_preln_and_goes_on_with_norms_on_both_sides(build):
    first, x = one_layer(build, "keel")
    x1 = x * first.residuals["self_attn"].omega + attended(first, first.self_attn_layer_norm(x))
    joined = x1 * first.residuals["ffn"].omega + first.feed_forward(first.inner_norms["ffn"](x1))
    assert torch.allclose(first(x), first.final_layer_norm(joined), rtol=1e-12)
    second, x = one_layer(build, "keel", index=1)
    branch = attended(second, second.inner_norms["self_attn"](x))
    x1 = second.self_attn_layer_norm(x * second.residuals["self_attn"].omega + branch)
    branch = second.feed_forward(second.inner_norms["ffn"](x1))
    expected = second.final_layer_norm(x1 * second.residuals["ffn"].omega + branch)
    assert torch.allclose(second(x), expected, rtol=1e-12)


def same_weights(model, other):
    """``other`` with the weights of ``model`` that it has too."""
    other.load_state_dict(model.state_dict(), strict=False)
    return other


@pytest.mark.parametrize("scale", [1.0, 0.05])
def test_resi_dual_adds_its_second_stream_to_postln(build, batch, scale):
    """x is Post-LN's; r is the sum of embeddings and branches, found here by hooks."""
    options = {"encoder_layers": 3, "decoder_layers": 1}
    how = {"resi_dual_alpha": 0.7, "resi_dual_scale": scale}
    model = moved(build(init_type="resi_dual", **options, **how)).double().eval()
    postln = same_weights(model, build(init_type="default", **options).double().eval())
    inputs = batch["src_tokens"], batch["src_lengths"]
    summed = []
    for layer in postln.encoder.layers:
        for residual in layer.residuals.values():
            residual.register_forward_hook(lambda module, inputs, output: summed.append(inputs))
    with on_reference_kernels(postln), on_reference_kernels(model):
        x, found = (m.encoder(*inputs)["encoder_out"][0] for m in (postln, model))
    stream = scale * (summed[0][0] + sum(branch for _, branch in summed))
    norm = model.encoder.connections.norm
    normed = torch.nn.functional.layer_norm(stream, (64,), norm.weight, norm.bias, 1e-7)
    real = batch["src_tokens"].ne(1).T
    assert torch.allclose(found[real], (0.7 * x + normed)[real], rtol=1e-9)


@pytest.mark.parametrize(
    ("scheme", "options"), [("lns", {}), ("completep", {"completep_base_layers": 2})]
)
def test_with_factors_of_one_a_scheme_is_preln(build, batch, scheme, options):
    sizes = {"encoder_layers": 2, "decoder_layers": 2}
    model = build(init_type=scheme, **sizes, **options).eval()
    for name, factor in held(model).items():
        if name.endswith("norm.scale"):
            factor.fill_(1)
    preln = build("preln_transformer_tiny", **sizes).eval()
    same_weights(model, preln)
    for kernels in (nullcontext, on_reference_kernels):
        with kernels(model), kernels(preln):
            assert torch.equal(model(**batch)[0], preln(**batch)[0])


def test_normformer_scales_each_head_before_the_projection(build):
    layer, x = one_layer(build, "normformer", normformer_parts="heads")
    scale = layer.self_attn.out_proj.before.scale
    with torch.no_grad():
        scale.copy_(torch.tensor([2.0, -0.5]))
    found = attended(layer, x)
    projection = layer.self_attn.out_proj
    with torch.no_grad():
        scale.fill_(1)
        projection.weight[:, :32] *= 2
        projection.weight[:, 32:] *= -0.5
    assert torch.allclose(attended(layer, x), found, rtol=1e-12)


@pytest.mark.parametrize("function", ["tanh", "erf"])
def test_dyt_stands_in_place_of_every_norm(build, function):
    layer, x = one_layer(build, "dyt", dyt_function=function)
    norms = layer.self_attn_layer_norm, layer.final_layer_norm

    def bounded(norm, x):
        inner = norm.alpha * x + (norm.shift if function == "erf" else 0)
        return norm.weight * getattr(torch, function)(inner) + norm.bias

    x1 = x + attended(layer, bounded(norms[0], x))
    expected = x1 + layer.feed_forward(bounded(norms[1], x1))
    assert torch.allclose(layer(x), expected, rtol=1e-12)


def test_a_branch_is_normed_before_its_dropout(build):
    layer = build(init_type="periln", encoder_layers=1, dropout=0.5).encoder.layers[0].train()
    x = torch.randn(5, 2, 64)
    joined, _ = layer.sublayer("ffn", x, torch.clone)
    assert 0.3 < (joined == x).float().mean() < 0.7  # a norm after dropout would leave no zeros


@pytest.mark.parametrize("dtype", HALF)
def test_the_second_stream_is_in_float32(dtype, build, batch):
    model = build(init_type="resi_dual", encoder_layers=2, decoder_layers=1).to(dtype).eval()
    streams = []

    def note(layer, inputs, options):
        streams.append(options["stream"].dtype)

    for layer in [*model.encoder.layers.children(), *model.decoder.layers.children()]:
        layer.register_forward_pre_hook(note, with_kwargs=True)
    assert model(**batch)[0].dtype == dtype
    assert streams == [torch.float32] * 3


def test_dyt_is_over_the_embeddings_too(build):
    model = build(init_type="dyt", layernorm_embedding=True, dyt_alpha=0.25)
    for stack in (model.encoder, model.decoder):
        assert stack.layernorm_embedding.alpha.tolist() == [0.25]
