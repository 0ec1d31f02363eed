import math

import pytest
import torch
from torch import nn

from admin_fairseq.initialize import (
    Mirror,
    Normal,
    Place,
    Rule,
    Scale,
    Uniform,
    XavierNormal,
    XavierUniform,
    Zero,
    initialize,
)


def net():
    """Parameters fc.weight (3 x 2), fc.bias, out.weight; out.weight shared with tied.weight."""
    net = nn.ModuleDict({"fc": nn.Linear(2, 3), "out": nn.Linear(3, 3, bias=False)})
    net["tied"] = nn.Linear(3, 3, bias=False)
    net["tied"].weight = net["out"].weight
    for parameter in net.parameters():
        nn.init.constant_(parameter, 5.0)
    return net


def apply(*rules, depths=(1, 1)):
    """The parameters that one number describes, after the rules."""
    model = net()
    initialize(model, rules, *depths)
    return {name: parameter.unique().item() for name, parameter in model.named_parameters()}


def test_rule_touches_the_parameters_it_names():
    assert apply(Zero(r"fc\..*")) == {"fc.weight": 0, "fc.bias": 0, "out.weight": 5}


def test_pattern_is_of_the_whole_name():
    untouched = apply()
    assert apply(Zero(r"fc")) == apply(Zero(r"weight")) == apply(Zero(r"c\.bias")) == untouched


def test_rules_apply_in_order():
    assert apply(Zero(r"fc\.bias"), Scale(r"fc\.bias", lambda n, m: 2))["fc.bias"] == 0


def test_scale_multiplies_by_its_formula_of_both_depths():
    rule = Scale(r"fc\.weight", lambda n, m: 10 * n + m)
    assert apply(rule, depths=(12, 3))["fc.weight"] == 5 * 123


def test_shared_parameter_is_scaled_once():
    rule = Scale(r"(out|tied)\.weight", lambda n, m: 2)
    assert apply(rule)["out.weight"] == 10


def test_xavier_normal_takes_its_gain_from_both_depths():
    torch.manual_seed(0)
    layer = nn.ModuleDict({"fc": nn.Linear(300, 200)})
    initialize(layer, [XavierNormal(r"fc\.weight", lambda n, m: n / m)], 3, 2)
    expected = (3 / 2) * math.sqrt(2 / (300 + 200))
    assert layer["fc"].weight.std().item() == pytest.approx(expected, rel=0.02)
    assert layer["fc"].weight.mean().item() == pytest.approx(0, abs=0.01 * expected)
    assert layer["fc"].weight.abs().max() > 3 * expected  # a uniform one ends at √3


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("size", [4, 5])
def test_mirror_gives_the_second_half_the_opposite_sign(dim, size):
    weight = torch.arange(1.0, 1 + size * size).view(size, size)
    before = weight.clone()
    Mirror("", dim).apply(weight, Place(1, 1, 0))
    half = size // 2
    first, rest = weight.narrow(dim, 0, size - half), before.narrow(dim, 0, size - half)
    assert torch.equal(first, rest)
    assert torch.equal(weight.narrow(dim, size - half, half), -before.narrow(dim, 0, half))


def test_parameters_stay_leaves_that_train():
    model = net()
    initialize(model, [XavierUniform(r".*\.weight"), Zero(r".*\.bias")], 1, 1)
    assert all(p.is_leaf and p.requires_grad and p.grad is None for p in model.parameters())


def test_a_rule_without_its_mathematics_says_so():
    with pytest.raises(NotImplementedError):
        initialize(net(), [Rule(r"fc\.bias")], 1, 1)


@pytest.mark.parametrize("sublayer", ["fc1", "fc2"])
def test_ffn_is_xavier_uniform(build, sublayer):
    torch.manual_seed(0)
    model = build(init_type="default")  # 64 and 128 wide
    weights = torch.cat(
        [p.flatten() for name, p in model.named_parameters() if name.endswith(f"{sublayer}.weight")]
    ).detach()
    bound = math.sqrt(6 / (64 + 128))
    assert len(weights) == 12 * 64 * 128
    assert 0.99 * bound < weights.abs().max() <= bound
    assert weights.mean().item() == pytest.approx(0, abs=0.01 * bound)
    assert weights.var().item() == pytest.approx(bound**2 / 3, rel=0.05)


def test_ffn_biases_start_at_zero(build):
    biases = [p for n, p in build().named_parameters() if n.endswith(("fc1.bias", "fc2.bias"))]
    assert len(biases) == 24
    assert not any(bias.any() for bias in biases)


def test_uniform_asks_for_its_bound_with_shape_and_layer():
    layers = nn.ModuleDict({"layers": nn.ModuleList(nn.Linear(2, 3) for _ in range(4))})
    model = nn.ModuleDict({"encoder": layers, "head": nn.Linear(2, 5)})
    asked = []

    def bound(rows, columns, layer):
        asked.append((rows, columns, layer))
        return float(layer)

    initialize(model, [Uniform(r".*\.weight", bound)], 4, 0)
    assert asked == [(3, 2, 1), (3, 2, 2), (3, 2, 3), (3, 2, 4), (5, 2, 0)]
    assert not model["head"].weight.any()
    for number, layer in enumerate(layers["layers"], start=1):
        assert 0.2 * number < layer.weight.abs().max() <= number


def test_padding_stays_zero():
    model = nn.ModuleDict({"embed": nn.Embedding(4, 3, padding_idx=1)})
    initialize(model, [Uniform(r"embed\.weight", lambda *shape: 1.0)], 1, 1)
    assert model["embed"].weight.abs().sum(1).ne(0).tolist() == [True, False, True, True]


def test_normal_draws_with_its_standard_deviation():
    weight = torch.empty(200, 300)
    Normal(r".*", 0.02).apply(weight, Place(1, 1, 0))
    assert weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert abs(weight.mean().item()) < 5e-4
