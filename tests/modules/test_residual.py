import pytest
import torch

from admin_fairseq.modules.residual import (
    GatedResidual,
    GrowingResidual,
    PlainResidual,
    Residual,
    Residuals,
    ScaledResidual,
)


class Shifted(ScaledResidual):
    """One of a stranger's: it says how it joins, and nothing of norms and kernels."""

    def forward(self, x, branch):
        return super().forward(x, branch) + x.roll(1, -1)


class Mixed(Shifted, GatedResidual):
    pass


class Swapping:
    def forward(self, x, branch):
        return branch - x


class SwappedByAMixin(Swapping, ScaledResidual):
    pass


class Own(ScaledResidual):
    def forward(self, x, branch):
        return x

    def norm(self, x, branch, norm, dropout):
        return norm(x)


class Inheriting(Own):
    pass


@pytest.mark.parametrize("kind", [Shifted, Mixed, SwappedByAMixin, GatedResidual, GrowingResidual])
def test_a_forward_of_its_own_is_normed_as_it_is(kind):
    assert kind.norm is Residual.norm


@pytest.mark.parametrize("kind", [Own, Inheriting])
def test_a_norm_that_knows_its_forward_is_kept(kind):
    assert kind.norm is Own.norm


def test_plain_is_the_sum_and_has_no_parameters():
    residual = PlainResidual(4)
    x, f = torch.randn(2, 3, 5, 4)
    assert torch.equal(residual(x, f), x + f)
    assert not list(residual.state_dict())


def test_scaled_is_the_plain_sum_at_the_start():
    x, f = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    assert torch.equal(ScaledResidual(4).double()(x, f), x + f)


def test_scaled_multiplies_every_channel_by_its_own_omega():
    residual = ScaledResidual(3).double()
    residual.omega.data = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    x, f = torch.randn(2, 2, 5, 3, dtype=torch.float64)
    out = residual(x, f)
    out.sum().backward()
    for channel, omega in enumerate((1.0, 2.0, 3.0)):
        assert torch.allclose(out[..., channel], omega * x[..., channel] + f[..., channel])
    assert torch.allclose(residual.omega.grad, x.sum((0, 1)))


def test_a_constant_scale_does_not_train():
    residual = ScaledResidual(3, trainable=False)
    x, f = torch.randn(2, 2, 5, 3, requires_grad=True)
    residual(x, f).sum().backward()
    assert residual.omega.grad is None
    assert list(residual.state_dict()) == ["omega"]


def test_gate_is_shut_at_the_start_and_learns():
    residual = GatedResidual(3).double()
    x, f = torch.randn(2, 2, 5, 3, dtype=torch.float64)
    out = residual(x, f)
    out.sum().backward()
    assert torch.equal(out, x)
    assert torch.allclose(residual.alpha.grad, f.sum())
    residual.alpha.data.fill_(0.5)
    assert torch.allclose(residual(x, f), x + 0.5 * f)


def test_without_an_alpha_in_the_checkpoint_the_gate_is_open():
    gate, state = GatedResidual(4), {}
    residuals = Residuals({"self_attn": gate, "ffn": gate})  # shared, as in ReZero
    residuals.upgrade_state_dict_named(state, "residuals")
    assert state == {"residuals.self_attn.alpha": 1, "residuals.ffn.alpha": 1}


def test_gate_may_start_open():
    x, f = torch.randn(2, 2, 5, 3)
    assert torch.equal(GatedResidual(3, start=1.0)(x, f), x + f)


@pytest.mark.parametrize(("updates", "alpha"), [(0, 0), (1, 0.01), (25, 0.25), (100, 1), (999, 1)])
def test_growing_gate_follows_the_updates(updates, alpha):
    residual = GrowingResidual(3, updates=100)
    residual.set_num_updates(updates)
    x, f = torch.randn(2, 2, 5, 3)
    assert torch.allclose(residual(x, f), x + alpha * f)
    assert not list(residual.parameters()) and "alpha" in residual.state_dict()


def test_growing_gate_never_shuts_again():
    """As where a trained model is fine-tuned, whose updates count from 0."""
    residual = GrowingResidual(3, updates=100)
    residual.load_state_dict({"alpha": torch.ones(1)})
    residual.set_num_updates(0)
    assert residual.alpha.item() == 1


@pytest.mark.parametrize("make, name", [(ScaledResidual, "omega"), (GatedResidual, "alpha")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_sums_in_float32(make, name, dtype):
    residual = make(8).to(dtype)
    getattr(residual, name).data.fill_(3.0)
    x = torch.full((2, 1, 8), 6e4, dtype=dtype)  # 3 x is beyond float16's 65504
    out = residual(x, x)
    assert out.dtype == torch.float32
    assert torch.allclose(out, 4 * x.float())
