import pytest
import torch
from fairseq.modules import FairseqDropout
from torch.nn import LayerNorm

from admin_fairseq.modules.norms import DynamicErf, DynamicTanh, ScaledLayerNorm, layer_norm
from admin_fairseq.modules.residual import PlainResidual, ScaledResidual

from ..conftest import HALF

NORMS = {
    "layer norm": LayerNorm,
    "scaled": ScaledLayerNorm,
    "tanh": lambda dim: DynamicTanh(dim, 0.5),
    "erf": lambda dim: DynamicErf(dim, 1),
}


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", NORMS)
def test_a_sum_in_float32_is_normed_in_float32(name, dtype):
    norm, x = NORMS[name](16), torch.randn(5, 2, 16)
    with torch.no_grad():
        for parameter in [*norm.parameters(), *norm.buffers()]:
            parameter.add_(0.3).copy_(parameter.to(dtype))  # what half precision can hold
        exact = norm(x)
        found = layer_norm(norm.to(dtype), x)
    assert found.dtype == dtype
    assert torch.equal(found, exact.to(dtype))


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", NORMS)
def test_a_branch_in_half_precision_does_not_round_the_norms_weights(name, dtype):
    """As with --autocast and --amp, whose weights are in float32."""
    norm, x = NORMS[name](16), torch.randn(5, 2, 16).to(dtype)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.add_(1e-4)  # a step too small for half precision
    found, expected = layer_norm(norm, x), norm(x.float())
    assert torch.equal(found, expected)
    gradients = [torch.autograd.grad(y.square().sum(), norm.weight) for y in (found, expected)]
    assert torch.equal(*(gradient for (gradient,) in gradients))


class Threefold(LayerNorm):
    """A stranger's norm, made from one that has a kernel."""

    def forward(self, x):
        return 3 * super().forward(x.type_as(self.weight))


@pytest.mark.parametrize("residual", [PlainResidual(16), ScaledResidual(16)])
def test_another_norm_is_called_itself(residual):
    norm, x, branch = Threefold(16), *torch.randn(2, 5, 2, 16)
    expected = norm(residual(x, branch))
    assert torch.equal(layer_norm(norm, residual(x, branch)), expected)
    assert torch.equal(residual.norm(x, branch, norm, FairseqDropout(0.0)), expected)
    norm = norm.bfloat16()
    assert torch.equal(layer_norm(norm, x), norm(x))


def test_a_preln_checkpoint_has_factors_of_one():
    norm, state = ScaledLayerNorm(4), {"norm.weight": torch.zeros(4)}
    norm.upgrade_state_dict_named(state, "norm")
    assert state["norm.scale"].tolist() == [1]


def test_the_factor_multiplies_the_norms_output():
    norm, plain, x = ScaledLayerNorm(16), LayerNorm(16), torch.randn(5, 2, 16)
    with torch.no_grad():
        for parameter, other in zip(norm.parameters(), plain.parameters()):
            other.copy_(parameter.normal_())
    norm.scale.fill_(0.25)
    assert torch.equal(norm(x), 0.25 * plain(x))
