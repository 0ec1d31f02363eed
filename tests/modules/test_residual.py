import pytest
import torch

from admin_fairseq.modules.residual import PlainResidual, ScaledResidual


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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_sums_in_float32(dtype):
    residual = ScaledResidual(8).to(dtype)
    residual.omega.data.fill_(3.0)
    x = torch.full((2, 1, 8), 6e4, dtype=dtype)  # 3 x is beyond float16's 65504
    out = residual(x, x)
    assert out.dtype == torch.float32
    assert torch.allclose(out, 4 * x.float())
