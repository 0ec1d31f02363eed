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
