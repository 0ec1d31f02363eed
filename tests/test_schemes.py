"""Every scheme of the table: what stands in its parameters at the start. A new row is tested by
being there, and fails until its numbers stand in START."""

import re
from collections import Counter

import pytest
import torch

from admin_fairseq.config import AdminTransformerConfig
from admin_fairseq.schemes import AS_FAIRSEQ, SCHEMES, Norm, scheme_of

from .conftest import held

DEPTHS = [(6, 6), (12, 3)]
EMBEDDINGS = {
    "unshared": {},
    "decoder's shared": {"share_decoder_input_output_embed": True},
    "all shared": {"share_all_embeddings": True},
}

# Standard deviations in units of Xavier's, sqrt(2 / (fan_in + fan_out)); of embeddings and of the
# biases of q, k, v in units of d^-½. What a scheme does not name is as in "default".
DEFAULT = {
    "qk": 0.7071,
    "v": 0.7071,
    "out": 1,
    "fc1": 1,
    "fc2": 1,
    "embed": 1,
    "output": 1,
    "bias": 0,
}
PATTERNS = {
    "qk": r"layers\.\d+\.\w+_attn\.[qk]_proj\.weight",
    "v": r"layers\.\d+\.\w+_attn\.v_proj\.weight",
    "out": r"layers\.\d+\.\w+_attn\.out_proj\.weight",
    "fc1": r"layers\.\d+\.fc1\.weight",
    "fc2": r"layers\.\d+\.fc2\.weight",
    "embed": r"embed_tokens\.weight",
    "output": r"output_projection\.weight",
    "bias": r"layers\.\d+\.\w+_attn\.[qkv]_proj\.bias",
    "omega": r"layers\.\d+\.residuals\.\w+\.omega",
    "alpha": r"layers\.\d+\.residuals\.\w+\.alpha",
    "shift": r"layers\.\d+\..*\.before\.shift",
    "scale": r"layers\.\d+\.\w+_layer_norm\.scale",
    "slope": r"(layers\.\d+\.)?\w*layer_norm\.alpha",
    "heads": r"layers\.\d+\.\w+\.out_proj\.before\.scale",
}
ADMIN = {"encoder": {"omega": 1}, "decoder": {"omega": 1}}  # before the profile
REZERO = {"encoder": {"alpha": 0}, "decoder": {"alpha": 0}}


def alike(value, *groups):
    return dict.fromkeys(groups, value)


FAIRSEQS = {"bias": 3**-0.5}  # torch's U(±1/√d)


def tfixup(weights, embed):
    return {**alike(weights, "v", "out", "fc1", "fc2"), "embed": embed, **FAIRSEQS}


def gain(value):
    return {"qk": 1, **alike(value, "v", "out", "fc1", "fc2")}


def fixup(attention, ffn):
    """Maps that begin a branch shrink, those that end one are zero."""
    inner = {**alike(0.7071 * attention, "qk", "v"), "fc1": ffn}
    return {**inner, "out": 0, "fc2": 0, "output": 0, "alpha": 1, "shift": 0}


def b2t(root):
    """The FFN as torch draws it: U(±1/√64), U(±1/√128)."""
    return {**alike(0.7071 * root, "qk", "v", "fc1"), "out": root, "fc2": 0.5 * root, **FAIRSEQS}


# sqrt(1/64) / sqrt(3) against sqrt(2/128), sqrt(2/192);  sqrt(1/128) / sqrt(3) for fc2;
# sqrt(2 / (64 + 24)) / sqrt(3) against 64^-½;  the output projection is linear, 64 wide
TORCHS = {**alike(0.7071, "qk", "v", "fc1"), "out": 1, "fc2": 0.5, **FAIRSEQS}
LIPSCHITZ = {
    **alike(0.5774, "qk", "v", "out", "output"),
    **{"fc1": 0.7071, "fc2": 0.5, "embed": 0.6963},
}
START = {
    "default": {depths: {} for depths in DEPTHS},
    **{f"adaptive{end}": dict.fromkeys(DEPTHS, ADMIN) for end in ("", "-profiling", "-auto")},
    "admin-torch": {
        # n = 12, 18;  n = 24, 9
        (6, 6): {"encoder": {"omega": 2.0170}, "decoder": {"omega": 2.3351}},
        (12, 3): {"encoder": {"omega": 2.6013}, "decoder": {"omega": 1.8284}},
    },
    "tfixup": {
        (6, 6): {"encoder": tfixup(0.4281, 0.3689), "decoder": tfixup(0.3689, 0.3689)},
        (12, 3): {"encoder": tfixup(0.3600, 0.3102), "decoder": tfixup(0.4387, 0.4387)},
    },
    "fixup": {
        # 30^-⅙, 30^-½ and 33^-⅙, 33^-½; attention to the encoder has 12^-⅙ = 0.6609: of both
        # attentions the root of the mean square
        (6, 6): {"encoder": fixup(0.5673, 0.1826), "decoder": fixup(0.6159, 0.1826)},
        (12, 3): {"encoder": fixup(0.5584, 0.1741), "decoder": fixup(0.6118, 0.1741)},
    },
    **{name: dict.fromkeys(DEPTHS, REZERO) for name in ("rezero", "rezero_postln", "branchnorm")},
    "deepnet": {
        (6, 6): {
            "encoder": {**gain(0.4970), "omega": 1.4179},
            "decoder": {**gain(0.3433), "omega": 2.0598},
        },
        (12, 3): {
            "encoder": {**gain(0.4364), "omega": 1.6147},
            "decoder": {**gain(0.4082), "omega": 1.7321},
        },
    },
    "subln": {
        # sqrt(⅓ ln 18 ln 12), sqrt(ln 18);  sqrt(⅓ ln 9 ln 24), sqrt(ln 9)
        # attention to the encoder has 1: of both attentions sqrt((γ² + 1) / 2)
        (6, 6): {
            "encoder": {**gain(1.5473), **FAIRSEQS},
            "decoder": {**gain(1.7001), **alike(1.3947, "v", "out"), **FAIRSEQS},
        },
        (12, 3): {
            "encoder": {**gain(1.5257), **FAIRSEQS},
            "decoder": {**gain(1.4823), **alike(1.2643, "v", "out"), **FAIRSEQS},
        },
    },
    "b2t": {
        # 6^-½;  12^-½ and 3^-½
        (6, 6): {"encoder": b2t(0.4082), "decoder": b2t(0.4082)},
        (12, 3): {"encoder": b2t(0.2887), "decoder": b2t(0.5774)},
    },
    "dlcl": {depths: {} for depths in DEPTHS},
    "looklinear": {depths: {} for depths in DEPTHS},
    "dsinit": {
        # pooled over layers: sqrt of the mean of 1/l, 2.45/6;  3.1032/12 and 1.8333/3
        (6, 6): {stack: alike(0.6390, "qk", "v", "out", "fc1", "fc2") for stack in ADMIN},
        (12, 3): {
            "encoder": alike(0.5085, "qk", "v", "out", "fc1", "fc2"),
            "decoder": alike(0.7817, "qk", "v", "out", "fc1", "fc2"),
        },
    },
    "lipschitz": {depths: {"encoder": LIPSCHITZ, "decoder": LIPSCHITZ} for depths in DEPTHS},
    "lns": {
        # 1/√l
        (6, 6): {stack: {"scale": [1, 0.7071, 0.5774, 0.5, 0.4472, 0.4082]} for stack in ADMIN},
        (12, 3): {
            "encoder": {
                "scale": [
                    *(1, 0.7071, 0.5774, 0.5, 0.4472, 0.4082),
                    *(0.3780, 0.3536, 0.3333, 0.3162, 0.3015, 0.2887),
                ]
            },
            "decoder": {"scale": [1, 0.7071, 0.5774]},
        },
    },
    "periln": {depths: {} for depths in DEPTHS},
    "resi_dual": {depths: {"encoder": TORCHS, "decoder": TORCHS} for depths in DEPTHS},
    "keel": {
        # 1 in a stack's first two sub-layers, then 2N and 3M
        (6, 6): {"encoder": {"omega": [1, 12]}, "decoder": {"omega": [1, 18]}},
        (12, 3): {"encoder": {"omega": [1, 24]}, "decoder": {"omega": [1, 9]}},
    },
    "dyt": {depths: {stack: {"slope": 1} for stack in ADMIN} for depths in DEPTHS},
    "normformer": {depths: {stack: {"heads": 1} for stack in ADMIN} for depths in DEPTHS},
    "completep": {
        # 6/6;  6/12 and 6/3
        (6, 6): {"encoder": {"alpha": 1}, "decoder": {"alpha": 1}},
        (12, 3): {"encoder": {"alpha": 0.5}, "decoder": {"alpha": 2}},
    },
}

# (stack, kind) → how many of a scheme's own parameters
OWN = r"omega|alpha|scale|before\.\w+|connections\.\w+|(output|inner)_norms"
PER_SUBLAYER = {"encoder": 12, "decoder": 18}
OMEGAS = {(stack, "omega"): count for stack, count in PER_SUBLAYER.items()}
ALPHAS = {(stack, "alpha"): count for stack, count in PER_SUBLAYER.items()}
GATES = {("encoder", "alpha"): 6, ("decoder", "alpha"): 6}
ADDED = {
    **dict.fromkeys(("adaptive", "adaptive-profiling", "adaptive-auto"), OMEGAS),
    **dict.fromkeys(("admin-torch", "deepnet"), OMEGAS),
    **dict.fromkeys(("rezero", "rezero_postln"), GATES),
    "branchnorm": ALPHAS,
    "fixup": {**ALPHAS, ("encoder", "before.shift"): 36, ("decoder", "before.shift"): 60},
    "subln": {
        (stack, f"before.{kind}"): 12 for stack in PER_SUBLAYER for kind in ("weight", "bias")
    },
    "lns": {(stack, "scale"): count for stack, count in PER_SUBLAYER.items()},
    "periln": {(stack, "output_norms"): 2 * count for stack, count in PER_SUBLAYER.items()},
    "resi_dual": {(stack, "connections.norm"): 2 for stack in PER_SUBLAYER},
    "keel": {**OMEGAS, ("encoder", "inner_norms"): 2 * 11, ("decoder", "inner_norms"): 2 * 17},
    "dyt": {("encoder", "alpha"): 12 + 1, ("decoder", "alpha"): 18 + 1},
    "normformer": {
        **{(stack, f"before.{kind}"): 6 for stack in PER_SUBLAYER for kind in ("weight", "bias")},
        **{("encoder", "before.scale"): 6, ("decoder", "before.scale"): 12},
        **{("encoder", "output_norms"): 2 * 6, ("decoder", "output_norms"): 2 * 12},
    },
    "completep": ALPHAS,
    "dlcl": {
        (stack, f"connections.{kind}"): count
        for stack in PER_SUBLAYER
        for kind, count in {"weights": 7, "norms": 14}.items()
    },
}


def parameters(build, **options):
    """Name → value, of a model drawn with a seed of its own."""
    torch.manual_seed(3)
    model = build("admin_transformer_tiny", **options)
    return {name: weight.detach() for name, weight in held(model).items()}


# What stands there at the start


def test_numbers_of_every_scheme_are_pinned():
    assert set(START) == set(SCHEMES)
    assert all(set(start) == set(DEPTHS) for start in START.values())


@pytest.mark.parametrize("depths", DEPTHS)
@pytest.mark.parametrize("name", SCHEMES)
def test_weights_start_with_the_formulas_numbers(build, name, depths):
    n, m = depths
    drawn = parameters(build, init_type=name, encoder_layers=n, decoder_layers=m)
    pinned = START[name][depths]
    for stack in ("encoder", "decoder"):
        expected = {**DEFAULT, **pinned.get(stack, {})}
        for group, pattern in PATTERNS.items():
            found = [p for key, p in drawn.items() if re.fullmatch(f"{stack}\\.{pattern}", key)]
            if group == "output" and stack == "encoder":
                continue
            assert bool(found) == (group in expected), (stack, group)
            if found:
                check(group, found, expected[group])


def check(group, found, expected):
    """That these weights, in their unit, have this spread; scales are one number exactly."""
    every = torch.cat([p.flatten() for p in found])
    if group in ("omega", "alpha", "shift", "scale", "slope", "heads"):
        numbers = list(dict.fromkeys(every.tolist()))  # in the order of the layers
        assert numbers == pytest.approx(
            expected if isinstance(expected, list) else [expected], abs=5e-5
        )
        return
    shape = found[0].shape
    table = group in ("embed", "output")
    unit = shape[-1] ** -0.5 if table or group == "bias" else (2 / sum(shape)) ** 0.5
    if table and len(found) == 1 and not found[0][1].any():
        every = torch.cat([found[0][:1], found[0][2:]]).flatten()  # without padding
    # the spread of n normal numbers is off by 1 / sqrt(2 n); 3.5 of these are one case in 2000
    tolerance = max(3.5 / (2 * len(every)) ** 0.5, 1e-4)
    assert every.std().item() / unit == pytest.approx(expected, rel=tolerance, abs=1e-9), group


@pytest.mark.parametrize("name", ["dsinit", "lipschitz"])
def test_uniform_weights_fill_their_bounds_in_every_layer(build, name):
    drawn = parameters(build, init_type=name, encoder_layers=4)
    for layer in range(4):
        weight = drawn[f"encoder.layers.{layer}.fc2.weight"]  # 64 x 128
        bound = (6 / 192 / (layer + 1)) ** 0.5 if name == "dsinit" else (1 / 128) ** 0.5
        assert 0.995 * bound < weight.abs().max() <= bound
        assert weight.mean().abs() < 0.03 * bound


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
        if re.search(r"[qkv]_proj\.bias", name):  # zero in "default" alone
            continue
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


@pytest.mark.parametrize("name", SCHEMES)
def test_padding_has_the_embedding_zero(build, name):
    embeddings = build(init_type=name, encoder_layers=1, decoder_layers=1).encoder.embed_tokens
    assert embeddings.padding_idx is not None
    assert not embeddings.weight[embeddings.padding_idx].any()


@pytest.mark.parametrize("name", SCHEMES)
def test_every_rule_has_something_to_do(build, name):
    names = list(parameters(build, init_type=name))
    options = AdminTransformerConfig(init_type=name)
    for rule in options.scheme.starts_from + options.scheme.weights:
        assert any(re.fullmatch(rule.pattern, n) for n in names), rule.pattern


MORE_PARAMETERS = [
    {"encoder_learned_pos": True, "decoder_learned_pos": True},
    {"adaptive_softmax_cutoff": "8,16", "decoder_output_dim": 32},
    {"decoder_input_dim": 32, "no_cross_attention": True},
]
OWN_PARAMETERS = {
    "subln": {"subln_in_encoder_attention": True},
    "admin-torch": {"omega_trainable": True},
}


@pytest.mark.parametrize("name", SCHEMES)
def test_a_scheme_says_where_every_parameter_comes_from(build, name):
    """From a rule, or as it was built: nothing is forgotten, and no pattern is left over."""
    embedding = [] if SCHEMES[name].norm is Norm.NONE else [{"layernorm_embedding": True}]
    options = [{}, *MORE_PARAMETERS, OWN_PARAMETERS.get(name, {}), *embedding]
    names = set()
    for given in options:
        scheme = scheme_of(AdminTransformerConfig(init_type=name, **given))
        patterns = [rule.pattern for rule in scheme.starts_from + scheme.weights]
        patterns += scheme.as_built
        built = set(held(build(init_type=name, **given)))
        names |= built
        for parameter in built:
            assert any(re.fullmatch(pattern, parameter) for pattern in patterns), parameter
    for pattern in SCHEMES[name].as_built[len(AS_FAIRSEQ) :]:
        assert any(re.fullmatch(pattern, parameter) for parameter in names), pattern


@pytest.mark.parametrize("name", SCHEMES)
def test_a_scheme_adds_the_parameters_that_it_names(build, name):
    """At 6L-6L, with 6 and 10 linear maps in a layer of encoder and decoder."""
    pre = {"encoder_normalize_before": True, "decoder_normalize_before": True}
    usual = set(parameters(build, init_type="default", **(pre if SCHEMES[name].norm.final else {})))
    own = [key for key in parameters(build, init_type=name) if key not in usual]
    found = Counter((key.split(".")[0], re.search(OWN, key).group()) for key in own)
    assert found == Counter(ADDED.get(name, {}))
    assert bool(own) == bool(SCHEMES[name].extra)


# Sub-LN's authors leave attention to the encoder as it is
INSIDE = {"subln": 6 * 2, "normformer": 6}
AT_ENDS = {  # of branches; KEEL's are before all but the first
    "periln": lambda sublayers: 6 * sublayers,
    "keel": lambda sublayers: 6 * sublayers - 1,
    "normformer": lambda sublayers: 6 * (sublayers - 1),
}


@pytest.mark.parametrize("name", SCHEMES)
def test_layer_norms_stand_where_the_table_says(build, name):
    norm, model = SCHEMES[name].norm, build(init_type=name)
    stacks = {"encoder": 2, "decoder": 3}
    for stack, sublayers in stacks.items():
        names = [
            module
            for module, kind in getattr(model, stack).named_modules()
            if isinstance(kind, torch.nn.LayerNorm) and not module.startswith("connections")
        ]
        around = [n for n in names if re.fullmatch(r"layers\.\d+\.\w+_norm", n)]
        inside = [n for n in names if n.endswith(".before")]
        at_ends = [n for n in names if re.search(r"\.(inner|output)_norms\.", n)]
        last = [n for n in names if n == "layer_norm"]
        without = norm is Norm.NONE or name == "dyt"
        assert len(around) == (0 if without else 6 * sublayers)
        assert len(inside) == INSIDE.get(name, 0)
        assert len(at_ends) == AT_ENDS.get(name, lambda sublayers: 0)(sublayers)
        assert len(last) == (norm.final and not without)
        assert len(around) + len(inside) + len(at_ends) + len(last) == len(names)


@pytest.mark.parametrize("name", SCHEMES)
def test_scheme_has_a_title_and_a_paper(name):
    assert SCHEMES[name].title
    assert SCHEMES[name].paper.startswith("https://")


@pytest.mark.parametrize("name", [name for name in SCHEMES if name.startswith("adaptive")])
def test_admin_differs_from_postln_in_omega_alone(build, name):
    default, admin = parameters(build, init_type="default"), parameters(build, init_type=name)
    assert all("omega" in name for name in set(admin) - set(default))
    assert len(admin) - len(default) == 6 * 2 + 6 * 3
    assert all(torch.equal(admin[name], default[name]) for name in default)


# Models of other shapes


@pytest.mark.parametrize(
    ("name", "pattern", "alone"),
    [
        ("admin-torch", OMEGA := r"decoder\..*\.omega", 2.0170),
        ("deepnet", OMEGA, 1.8612),
        ("deepnet", VALUE := r"decoder\..*v_proj\.weight", 0.3799),
        ("tfixup", VALUE, 36**-0.25),
        ("subln", VALUE, 1.5764),
    ],
)
def test_a_decoder_that_does_not_attend_counts_two_sublayers_a_layer(build, name, pattern, alone):
    drawn = parameters(build, init_type=name, no_cross_attention=True)
    found = torch.cat([p.flatten() for key, p in drawn.items() if re.fullmatch(pattern, key)])
    if pattern == OMEGA:
        assert found.unique().item() == pytest.approx(alone, abs=5e-5)
    else:
        assert found.std().item() / 64**-0.5 == pytest.approx(alone, rel=0.03)


def test_lipschitz_takes_the_maps_beside_the_layers_too(build):
    drawn = parameters(build, init_type="lipschitz", decoder_output_dim=16)
    for name, fan_in in (("project_out_dim", 64), ("output_projection", 16)):
        bound = fan_in**-0.5
        assert 0.95 * bound < drawn[f"decoder.{name}.weight"].abs().max() <= bound, name


# Options of single schemes


def test_subln_may_be_that_of_the_papers_text(build):
    """γ and the second norm in attention to the encoder too."""
    text = parameters(build, init_type="subln", subln_in_encoder_attention=True)
    code = parameters(build, init_type="subln")
    cross = "decoder.layers.0.encoder_attn"
    assert set(text) - set(code) == {
        f"decoder.layers.{i}.encoder_attn.out_proj.before.{kind}"
        for i in range(6)
        for kind in ("weight", "bias")
    }
    for kind in ("v_proj", "out_proj"):
        unit = 64**-0.5
        assert code[f"{cross}.{kind}.weight"].std() / unit == pytest.approx(1, rel=0.05)
        assert text[f"{cross}.{kind}.weight"].std() / unit == pytest.approx(1.7001, rel=0.05)


@pytest.mark.parametrize(
    ("scale", "encoder", "decoder"),
    [("O(logn)", 2.0170, 2.3351), ("O(1)", 3.4641, 4.2426), ("O(n)", 1, 1)],
)
@pytest.mark.parametrize("trainable", [False, True])
def test_admin_torch_has_the_omega_asked_for(build, scale, encoder, decoder, trainable):
    options = {"output_change_scale": scale, "omega_trainable": trainable}
    model = build(init_type="admin-torch", **options)
    for stack, omega in (("encoder", encoder), ("decoder", decoder)):
        found = {n: p for n, p in getattr(model, stack).state_dict().items() if n.endswith("omega")}
        assert torch.stack([*found.values()]).unique().item() == pytest.approx(omega, abs=5e-5)
        trained = dict(getattr(model, stack).named_parameters()).keys() & found.keys()
        assert trained == (found.keys() if trainable else set())


@pytest.mark.parametrize("name", ["deepnet", "branchnorm", "admin-torch"])
def test_constants_do_not_train(build, name):
    model = build(init_type=name)
    assert all(p.requires_grad for p in model.parameters())
    assert not any(".residuals." in name for name, _ in model.named_parameters())
    assert sum(".residuals." in name for name in model.state_dict()) == 6 * 2 + 6 * 3


def test_branchnorm_opens_its_branches_with_the_updates(build, batch):
    model = build(init_type="branchnorm", branchnorm_updates=8, decoder_layers=2).eval()
    alphas = [alpha for name, alpha in model.named_buffers() if name.endswith("alpha")]
    logits = []
    for updates, alpha in ((0, 0), (2, 0.25), (8, 1), (100, 1)):
        model.set_num_updates(updates)
        assert torch.cat(alphas).unique().item() == alpha
        logits.append(model(**batch)[0])
    assert not torch.allclose(logits[1], logits[2])
    assert torch.equal(logits[2], logits[3])
    postln = build(init_type="default", decoder_layers=2).eval()
    postln.load_state_dict(model.state_dict(), strict=False)
    assert torch.allclose(logits[3], postln(**batch)[0], atol=1e-6)


@pytest.mark.parametrize("name", ["rezero", "rezero_postln"])
def test_rezero_has_one_gate_per_layer(build, name):
    model = build(init_type=name)
    assert sum(n.endswith("alpha") for n, _ in model.named_parameters()) == 6 + 6
    for layer in [*model.encoder.layers, *model.decoder.layers]:
        assert len({id(residual) for residual in layer.residuals.values()}) == 1


def test_looks_linear_ffn_is_linear_at_the_start(build):
    model = build(init_type="looklinear")
    for layer in (model.encoder.layers[0], model.decoder.layers[5]):
        x, y = torch.randn(2, 5, 3, 64)
        apart = layer.feed_forward(x) + 2 * layer.feed_forward(y)
        assert torch.allclose(layer.feed_forward(x + 2 * y), apart, atol=1e-4)
