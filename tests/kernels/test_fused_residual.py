"""The fused kernel against the modules it stands for; on a CPU through Triton's interpreter
(tests/conftest.py)."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.checkpoint import checkpoint

from admin_fairseq.kernels import fused_residual
from admin_fairseq.kernels.fused_residual import fuses, residual_norm, sum_and_norm
from admin_fairseq.modules.residual import PlainResidual, ScaledResidual, layer_norm

from ..conftest import wants_more_than_torch_2_1

pytest.importorskip("triton", reason="Triton is not installed (torch's CUDA builds bring it)")
pytestmark = wants_more_than_torch_2_1("today's Triton finds no interpreter beside it")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PARAMETERS = ("omega", "weight", "bias")


def inputs(rows, channels, scaled=True, dtypes=(torch.float32,) * 3, seed=0):
    """x, branch and the parameters, none of them at a value that hides mistakes."""
    torch.manual_seed(seed)
    of_x, of_branch, of_parameters = dtypes
    x, branch = torch.randn(2, *rows, channels).unbind(0)
    omega, weight, bias = 1 + torch.randn(3, channels)
    tensors = {"x": x.to(of_x), "branch": branch.to(of_branch)}
    tensors |= {
        name: value.to(of_parameters) for name, value in zip(PARAMETERS, (omega, weight, bias))
    }
    tensors = {name: t.to(DEVICE).requires_grad_() for name, t in tensors.items()}
    return tensors if scaled else {**tensors, "omega": None}


def plain(tensors, eps=1e-5, mask=1.0):
    """What a layer does: residual module, then layer norm."""
    channels = tensors["x"].shape[-1]
    residual = PlainResidual(channels) if tensors["omega"] is None else ScaledResidual(channels)
    norm = torch.nn.LayerNorm(channels, eps).to(tensors["weight"].dtype)
    swap = {"weight": tensors["weight"], "bias": tensors["bias"]}
    for name, value in swap.items():
        delattr(norm, name)
        setattr(norm, name, value)
    if tensors["omega"] is not None:
        del residual.omega
        residual.omega = tensors["omega"]
    return layer_norm(norm, residual(tensors["x"], tensors["branch"] * mask))


def fused(tensors, eps=1e-5, dropout=0.0):
    return residual_norm(*tensors.values(), eps, dropout)


def with_gradients(out, tensors):
    wanted = {name: t for name, t in tensors.items() if t is not None}
    torch.manual_seed(9)
    above = torch.randn_like(out, dtype=torch.float32).to(out.dtype)
    return {"out": out} | dict(zip(wanted, torch.autograd.grad(out, list(wanted.values()), above)))


@settings(deadline=None, max_examples=20)
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=2),
    st.sampled_from([1, 2, 7, 16, 33]),
    st.booleans(),
    st.sampled_from([1e-5, 1e-2]),
)
def test_outputs_and_gradients_equal_the_plain_ones(rows, channels, scaled, eps):
    tensors = inputs(rows, channels, scaled)
    expected = with_gradients(plain(tensors, eps), tensors)
    for name, found in with_gradients(fused(tensors, eps), tensors).items():
        other = expected[name]
        assert found.shape == other.shape and found.dtype == other.dtype, name
        scale = max(1.0, float(other.abs().max())) if other.numel() else 1.0
        if channels <= 2:  # next to nothing is left of the sum, divided by √ε
            scale *= 300
        assert torch.allclose(found, other, rtol=0, atol=2e-6 * scale), name


HALVES = [
    (torch.float16,) * 3,
    (torch.bfloat16,) * 3,
    (torch.float32, torch.bfloat16, torch.float32),  # --autocast bfloat16
]


@pytest.mark.parametrize("dtypes", HALVES, ids=str)
def test_half_precision_is_within_its_rounding(dtypes):
    tensors = inputs((5, 3), 48, dtypes=dtypes)
    exact = {name: t.detach().double().requires_grad_() for name, t in tensors.items()}
    torch.manual_seed(9)
    out = fused(tensors)
    assert out.dtype == dtypes[2]
    found, expected = with_gradients(out, tensors), None
    above = None
    torch.manual_seed(9)
    above = torch.randn_like(out, dtype=torch.float32).to(out.dtype).double()
    whole = plain(exact)
    expected = dict(zip(exact, torch.autograd.grad(whole, list(exact.values()), above)))
    expected["out"] = whole
    for name, value in found.items():
        eps = torch.finfo(value.dtype).eps
        bound = 2 * max(eps, 1e-6) * float(expected[name].abs().max())
        assert (value - expected[name]).abs().max() <= bound, name
        assert name == "out" or value.dtype == tensors[name].dtype


def test_sums_beyond_float16s_range():
    tensors = inputs((4,), 32, dtypes=(torch.float16,) * 3)
    tensors["x"].data.clamp_(-1, 1).mul_(6e4)
    tensors["omega"].data.fill_(4.0)
    out = fused(tensors)
    assert torch.isfinite(out).all()
    assert all(torch.isfinite(t).all() for t in with_gradients(out, tensors).values())


def test_rows_in_any_order_of_memory():
    """fairseq's first layer gets B x T x C, transposed."""
    tensors = inputs((3, 4), 16)
    turned = {**tensors, **{n: tensors[n].transpose(0, 1) for n in ("x", "branch")}}
    assert torch.equal(fused(turned), fused(tensors).transpose(0, 1))


def test_dropout_forward_and_backward_drop_the_same():
    p, tensors = 0.3, inputs((10, 5), 64)
    torch.manual_seed(2)
    found = with_gradients(fused(tensors, dropout=p), tensors)
    kept = found["branch"].ne(0)
    count = kept.numel()
    assert abs(int(kept.sum()) - count * (1 - p)) < 5 * math.sqrt(count * p * (1 - p))
    mask = kept / (1 - p)
    expected = with_gradients(plain(tensors, mask=mask), tensors)
    for name, value in found.items():
        bound = 4e-6 * max(1.0, float(expected[name].abs().max()))
        assert torch.allclose(value, expected[name], rtol=0, atol=bound), name


def test_a_seed_decides_and_sums_have_one_order():
    tensors = inputs((20,), 24)
    runs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        out = fused(tensors, dropout=0.5)
        runs.append(torch.cat([t.flatten() for t in with_gradients(out, tensors).values()]))
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


def test_more_rows_than_programs(monkeypatch):
    monkeypatch.setattr(fused_residual, "PROGRAMS", 3)
    tensors = inputs((11,), 16)
    expected = with_gradients(plain(tensors), tensors)
    for name, value in with_gradients(fused(tensors), tensors).items():
        assert torch.allclose(value, expected[name], rtol=1e-5, atol=4e-6), name


def test_only_where_there_is_a_gpu():
    x = torch.randn(2, 3, 4)
    assert not fuses(x, x)


def test_groups_of_rows_are_dropped_alike_in_both_directions(monkeypatch):
    """Rows that are no multiple of four, more groups than programs, channels no power of two."""
    monkeypatch.setattr(fused_residual, "PROGRAMS", 2)
    p, tensors = 0.4, inputs((11,), 100)
    torch.manual_seed(3)
    found = with_gradients(fused(tensors, dropout=p), tensors)
    kept = found["branch"].ne(0)
    expected = with_gradients(plain(tensors, mask=kept / (1 - p)), tensors)
    for name, value in found.items():
        bound = 4e-6 * max(1.0, float(expected[name].abs().max()))
        assert torch.allclose(value, expected[name], rtol=0, atol=bound), name


def test_rows_are_dropped_independently():
    """Four rows share their draws: of two rows' masks, half agree at p = 1/2."""
    tensors = inputs((12,), 128, scaled=False)
    torch.manual_seed(4)
    kept = with_gradients(fused(tensors, dropout=0.5), tensors)["branch"].ne(0)
    agree = [int((a == b).sum()) for i, a in enumerate(kept) for b in kept[:i]]
    assert all(abs(count - 64) < 5 * math.sqrt(128 / 4) for count in agree)


def test_all_of_the_branch_dropped():
    tensors = inputs((5,), 16)
    found = with_gradients(fused(tensors, dropout=1.0), tensors)
    expected = with_gradients(plain(tensors, mask=0.0), tensors)
    for name, value in found.items():
        assert torch.allclose(value, expected[name], rtol=1e-5, atol=4e-6), name


def test_checkpointing_makes_the_same_mask_again():
    tensors = inputs((6,), 32)
    torch.manual_seed(5)
    expected = with_gradients(fused(tensors, dropout=0.3), tensors)
    torch.manual_seed(5)
    out = checkpoint(
        lambda *given: residual_norm(*given, 1e-5, 0.3), *tensors.values(), use_reentrant=False
    )
    for name, value in with_gradients(out, tensors).items():
        assert torch.equal(value, expected[name]), name


def test_parameters_in_any_order_of_memory():
    tensors = inputs((3,), 16)
    strided = {n: torch.stack([t, t], -1)[..., 0] for n, t in tensors.items()}
    assert torch.equal(fused(strided), fused(tensors))


def test_gradients_of_transposed_inputs_and_outputs():
    tensors = inputs((3, 4), 16)
    turned = {**tensors, **{n: tensors[n].transpose(0, 1) for n in ("x", "branch")}}
    # contiguous after the transpose, a gradient is not before it
    expected = with_gradients(plain(turned).transpose(0, 1).contiguous(), tensors)
    found = with_gradients(fused(turned).transpose(0, 1).contiguous(), tensors)
    for name, value in found.items():
        assert torch.allclose(value, expected[name], rtol=1e-5, atol=4e-6), name


def summed(tensors, eps=1e-5, dropout=0.0):
    given = {name: tensor for name, tensor in tensors.items() if name != "omega"}
    return torch.stack([part.float() for part in sum_and_norm(*given.values(), eps, dropout)])


def plainly_summed(tensors, eps=1e-5, mask=1.0, dtype=None):
    channels = tensors["x"].shape[-1:]
    total = tensors["x"] + tensors["branch"] * mask
    if dtype is not None:
        total = total + (total.to(dtype) - total).detach()
    parameters = [tensors[name].type_as(total) for name in ("weight", "bias")]
    normed = torch.nn.functional.layer_norm(total, channels, *parameters, eps)
    return torch.stack([total.float(), normed.float()])


@pytest.mark.parametrize("rows", [(5,), (11, 3), (0, 2)])
@pytest.mark.parametrize(("channels", "p"), [(48, 0.0), (100, 0.3), (16, 1.0)])
def test_the_sum_and_its_norm_with_their_gradients(rows, channels, p, monkeypatch):
    monkeypatch.setattr(fused_residual, "PROGRAMS", 3)
    tensors = inputs(rows, channels, scaled=False)
    torch.manual_seed(6)
    found = with_gradients(summed(tensors, dropout=p), tensors)
    mask = found["branch"].ne(0) / (1 - p) if p < 1 else 0.0
    for name, expected in with_gradients(plainly_summed(tensors, mask=mask), tensors).items():
        scale = max(1.0, float(expected.abs().max())) if expected.numel() else 1.0
        assert torch.allclose(found[name], expected, rtol=0, atol=4e-6 * scale), name


@pytest.mark.parametrize("dtypes", HALVES, ids=str)
def test_the_sum_is_rounded_as_without_the_kernel(dtypes):
    tensors = inputs((5, 3), 48, scaled=False, dtypes=dtypes)
    total, normed = sum_and_norm(*[t for t in tensors.values() if t is not None], 1e-5, 0.0)
    assert total.dtype == dtypes[0] and normed.dtype == dtypes[2]
    expected = tensors["x"] + tensors["branch"]
    unit = torch.finfo(total.dtype).eps  # Triton's interpreter cuts bfloat16 off
    assert torch.allclose(total, expected, rtol=unit, atol=0)
    found = with_gradients(summed(tensors), tensors)
    exact = {n: t.detach().double().requires_grad_() for n, t in tensors.items() if t is not None}
    expected = with_gradients(plainly_summed(exact, dtype=dtypes[0]), exact)
    for name, value in found.items():
        bound = 3 * torch.finfo(dtypes[1]).eps * float(expected[name].abs().max())
        assert (value - expected[name]).abs().max() <= bound, name
        assert name == "out" or value.dtype == tensors[name].dtype


def test_either_output_alone_has_gradients():
    tensors = inputs((4,), 16, scaled=False)
    wanted = [tensors["x"], tensors["branch"]]
    for part in (0, 1):
        out, expected = (f(tensors)[part].square().sum() for f in (summed, plainly_summed))
        for a, b in zip(*(torch.autograd.grad(o, wanted) for o in (out, expected))):
            assert torch.allclose(a, b, rtol=1e-5, atol=1e-5)


def test_second_derivatives_are_refused():
    tensors = inputs((3,), 4)
    with pytest.raises(RuntimeError, match="no second derivatives"):
        torch.autograd.grad(fused(tensors).sum(), tensors["x"], create_graph=True)
