import re

import pytest
import torch

from admin_fairseq.schemes import BASE_WEIGHTS, SCHEMES

DEPTHS = [(6, 6), (12, 3)]
EMBEDDINGS = {
    "unshared": {},
    "decoder's shared": {"share_decoder_input_output_embed": True},
    "all shared": {"share_all_embeddings": True},
}


def parameters(build, **options):
    """Name → value, of a model drawn with a seed of its own."""
    torch.manual_seed(3)
    model = build("admin_transformer_tiny", **options)
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def tfixup_factor(name, n, m):
    """What T-Fixup multiplies the parameter by, at n encoder and m decoder layers."""
    stack, module, kind = name.split(".")[0], name.split(".")[-2], name.split(".")[-1]
    if kind == "bias" or module in ("q_proj", "k_proj", "output_projection"):
        return 1
    depth_factor = {"encoder": 0.67 / n**0.25, "decoder": 1 / (9 * m) ** 0.25}[stack]
    return {
        "fc1": depth_factor,
        "fc2": depth_factor,
        "out_proj": depth_factor,
        "v_proj": depth_factor * 2**0.5,
        "embed_tokens": {"encoder": (9 * n) ** -0.25, "decoder": (9 * m) ** -0.25}[stack],
    }[module]


@pytest.mark.parametrize("embeddings", EMBEDDINGS)
@pytest.mark.parametrize(("n", "m"), DEPTHS)
def test_tfixup_scales_every_parameter_by_its_rule(build, n, m, embeddings):
    options = {"encoder_layers": n, "decoder_layers": m, **EMBEDDINGS[embeddings]}
    default = parameters(build, init_type="default", **options)
    tfixup = parameters(build, init_type="tfixup", **options)
    assert all("layer_norm" in name for name in set(default) - set(tfixup))
    for name, weight in tfixup.items():
        expected = default[name] * tfixup_factor(name, n, m)
        torch.testing.assert_close(weight, expected, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("embeddings", EMBEDDINGS)
def test_shared_embeddings_are_one_parameter(build, embeddings):
    names = set(parameters(build, init_type="tfixup", **EMBEDDINGS[embeddings]))
    tables = {"encoder.embed_tokens.weight"}
    if embeddings != "all shared":
        tables.add("decoder.embed_tokens.weight")
    if embeddings == "unshared":
        tables.add("decoder.output_projection.weight")
    assert {name for name in names if "embed" in name or "output" in name} == tables


def test_tfixup_leaves_queries_keys_and_biases_untouched(build):
    default = parameters(build, init_type="default")
    tfixup = parameters(build, init_type="tfixup")
    untouched = [n for n in tfixup if n.endswith("bias") or ".q_proj." in n or ".k_proj." in n]
    assert len(untouched) == 6 * (6 + 2) + 6 * (10 + 4)  # a layer's biases, its weights of q, k
    assert all(torch.equal(tfixup[name], default[name]) for name in untouched)


def test_tfixup_has_no_layer_norm(build):
    model = build("tfixup_transformer_tiny", encoder_layers=12, decoder_layers=3)
    assert not any(isinstance(module, torch.nn.LayerNorm) for module in model.modules())
    assert not any("layer_norm" in key for key in model.state_dict())


def test_padding_has_the_embedding_zero(build):
    embeddings = build("tfixup_transformer_tiny").encoder.embed_tokens
    assert embeddings.padding_idx is not None
    assert not embeddings.weight[embeddings.padding_idx].any()


@pytest.mark.parametrize("name", SCHEMES)
def test_every_rule_has_something_to_do(build, name):
    names = list(parameters(build, init_type=name))
    for rule in BASE_WEIGHTS + SCHEMES[name].weights:
        assert any(re.fullmatch(rule.pattern, n) for n in names), rule.pattern


@pytest.mark.parametrize("name", SCHEMES)
def test_scheme_has_a_title_and_a_paper(name):
    assert SCHEMES[name].title
    assert SCHEMES[name].paper.startswith("https://")


@pytest.mark.parametrize("name", [name for name in SCHEMES if name.startswith("adaptive")])
def test_admin_without_a_run_keeps_every_omega_at_one(build, name):
    omegas = [p for n, p in parameters(build, init_type=name).items() if n.endswith("omega")]
    assert len(omegas) == 6 * 2 + 6 * 3
    assert all(torch.equal(omega, torch.ones(64)) for omega in omegas)


def test_schemes_differ_in_omega_and_norm_alone(build):
    default, admin = parameters(build, init_type="default"), parameters(build, init_type="adaptive")
    assert all("omega" in name for name in set(admin) - set(default))
    assert all(torch.equal(admin[name], default[name]) for name in default)


@pytest.mark.parametrize(("n", "m"), DEPTHS)
def test_deepnorm_draws_and_scales_by_the_papers_numbers(build, n, m):
    deepnorm = parameters(build, init_type="deepnet", encoder_layers=n, decoder_layers=m)
    alpha = {"encoder": 0.81 * (n**4 * m) ** (1 / 16), "decoder": (3 * m) ** 0.25}
    beta = {"encoder": 0.87 * (n**4 * m) ** (-1 / 16), "decoder": (12 * m) ** -0.25}
    for stack in ("encoder", "decoder"):
        of_stack = {name: p for name, p in deepnorm.items() if name.startswith(stack)}
        omegas = torch.stack([p for name, p in of_stack.items() if name.endswith("omega")])
        torch.testing.assert_close(omegas, torch.full_like(omegas, alpha[stack]))
        for pattern, gain in (
            (r".*_attn\.[qk]_proj\.weight", 1),
            (r".*_attn\.(v|out)_proj\.weight", beta[stack]),
            (r".*\.fc[12]\.weight", beta[stack]),
        ):
            drawn = [p for name, p in of_stack.items() if re.fullmatch(pattern, name)]
            deviation = (2 / sum(drawn[0].shape)) ** 0.5
            found = torch.cat([p.flatten() for p in drawn]).std().item()
            assert found == pytest.approx(gain * deviation, rel=0.03), (stack, pattern)


def test_deepnorm_keeps_its_alpha_constant(build):
    model = build(init_type="deepnet")
    constant = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert constant == [name for name, _ in model.named_parameters() if name.endswith("omega")]
    assert len(constant) == 6 * 2 + 6 * 3


@pytest.mark.parametrize(("name", "norms"), [("rezero", 0), ("rezero_postln", 6 * 2 + 6 * 3)])
def test_rezero_has_one_gate_per_layer_shut_at_the_start(build, name, norms):
    model = build(init_type=name)
    gates = {n: p for n, p in model.named_parameters() if n.endswith("alpha")}
    assert len(gates) == 6 + 6
    assert not any(gate.any() for gate in gates.values())
    for layer in [*model.encoder.layers, *model.decoder.layers]:
        assert len({id(residual) for residual in layer.residuals.values()}) == 1
    assert sum(isinstance(module, torch.nn.LayerNorm) for module in model.modules()) == norms


def test_looks_linear_ffn_is_linear_at_the_start(build):
    model = build(init_type="looklinear")
    for layer in (model.encoder.layers[0], model.decoder.layers[5]):
        x, y = torch.randn(2, 5, 3, 64)
        apart = layer.feed_forward(x) + 2 * layer.feed_forward(y)
        assert torch.allclose(layer.feed_forward(x + 2 * y), apart, atol=1e-4)


@pytest.mark.parametrize("name", SCHEMES)
def test_thirty_steps_lower_the_loss(build, batch, name):
    torch.manual_seed(1)
    model = build(init_type=name, encoder_layers=3, decoder_layers=2, dropout=0.0)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(30):
        logits, _ = model(**batch)
        target = batch["prev_output_tokens"]
        loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), target, ignore_index=1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
