import pytest
import torch
from fairseq.modules import MultiheadAttention
from torch import nn

from admin_fairseq.modules.inputs import Shift, put_before


class Twice(nn.Module):
    """Knows how wide its input is."""

    def __init__(self, dim, heads):
        super().__init__()
        self.dim = dim

    def forward(self, x):
        assert x.size(-1) == self.dim
        return 2 * x


@pytest.fixture
def layer():
    attention = MultiheadAttention(8, 2, self_attention=True).eval()
    return nn.ModuleDict({"attn": attention, "fc1": nn.Linear(8, 6), "fc2": nn.Linear(6, 8)})


def attend(layer, x, mask=None):
    return layer["attn"](x, x, x, key_padding_mask=mask, need_weights=False)[0]


def test_shift_adds_one_number():
    shift = Shift(4, heads=2)
    x = torch.randn(3, 2, 4)
    assert torch.equal(shift(x), x)
    shift.shift.data.fill_(0.5)
    assert torch.equal(shift(x), x + 0.5)
    assert shift.shift.numel() == 1


def test_module_sees_the_input_first(layer):
    x = torch.randn(3, 8)
    expected = layer["fc1"](2 * x)
    put_before(layer, "fc1", Twice, heads=2)
    assert torch.equal(layer["fc1"](x), expected)


def test_names_are_whole_ones(layer):
    put_before(layer, "fc", Twice, heads=2)
    put_before(layer, "attn", Twice, heads=2)
    assert not [name for name, _ in layer.named_modules() if "before" in name]


@pytest.mark.parametrize("linear", ["q_proj", "k_proj", "v_proj", "out_proj"])
def test_attention_does_not_pass_it_by(layer, linear):
    """Without decoding state fairseq would hand the bare weights to torch's fused function."""
    x = torch.randn(5, 3, 8)
    mask = torch.tensor([[False] * 5, [False] * 4 + [True], [False] * 2 + [True] * 3])
    before = attend(layer, x, mask)
    put_before(layer, rf"attn\.{linear}", Twice, heads=2)
    with_module = attend(layer, x, mask)
    weight = getattr(layer["attn"], linear).weight
    getattr(layer["attn"], linear)._forward_pre_hooks.clear()
    weight.data.mul_(2)  # the same for a linear map
    layer["attn"].skip_embed_dim_check = False
    assert torch.allclose(with_module, attend(layer, x, mask), atol=1e-6)
    assert not torch.allclose(with_module, before, atol=1e-3)


def test_attention_without_one_keeps_torchs_function(layer):
    put_before(layer, "fc1", Twice, heads=2)
    assert not layer["attn"].skip_embed_dim_check
