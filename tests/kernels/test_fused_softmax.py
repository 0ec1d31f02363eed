"""The fused kernel against the steps it stands for; on a CPU through Triton's interpreter
(tests/conftest.py)."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from admin_fairseq.kernels import chunked_loss, fused_softmax
from admin_fairseq.kernels.chunked_loss import ChunkedLoss
from admin_fairseq.kernels.fused_softmax import softmax_losses
from tests.conftest import HALF, wants_more_than_torch_2_1
from tests.kernels.test_chunked_loss import assert_close, fairseqs, gradients, problem

pytest.importorskip("triton", reason="Triton is not installed (torch's CUDA builds bring it)")
pytestmark = wants_more_than_torch_2_1("today's Triton finds no interpreter beside it")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def given_logits(rows, types, dtype=torch.float32, seed=0, size=3.0):
    generator = torch.Generator().manual_seed(seed)
    logits = size * torch.randn(rows, types, generator=generator)
    targets = torch.randint(types, (rows,), generator=generator)
    return logits.to(dtype).to(DEVICE), targets.to(DEVICE)


def plain(logits, targets, smoothing, scales):
    """In float64: loss and −log p, and the gradient of the scaled losses' sum."""
    logits = logits.double().requires_grad_()
    log_p = logits.log_softmax(1)
    nll = -log_p.gather(1, targets[:, None]).squeeze(1)
    spread = smoothing / (logits.shape[1] - 1)
    loss = (1 - smoothing - spread) * nll - spread * log_p.sum(1)
    return torch.stack([loss, nll]), torch.autograd.grad(loss @ scales.double(), logits)[0]


@settings(deadline=None, max_examples=30)
@given(
    st.integers(1, 5),
    st.integers(2, 70),
    st.sampled_from([0.0, 0.1, 0.5]),
    st.integers(0, 99),
    st.sampled_from([16, 4096]),
)
def test_losses_and_gradients_equal_the_plain_ones(rows, types, smoothing, seed, block):
    logits, targets = given_logits(rows, types, seed=seed)
    scales = torch.linspace(0, 3, rows, device=DEVICE)
    losses, gradient = plain(logits, targets, smoothing, scales)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused_softmax, "BLOCK", block)
        found = softmax_losses(logits, targets, smoothing, scales)
    assert torch.allclose(found.double(), losses, rtol=1e-5, atol=1e-5)
    assert torch.allclose(logits.double(), gradient, rtol=1e-5, atol=1e-6)


def test_without_scales_the_logits_stay():
    logits, targets = given_logits(3, 20)
    before = logits.clone()
    softmax_losses(logits, targets, 0.1)
    assert torch.equal(logits, before)


def test_rows_may_have_gaps_between_them():
    wide, targets = given_logits(4, 32)
    before = wide.clone()
    narrow, scales = wide[:, :21], torch.ones(4, device=DEVICE)
    targets = targets.clamp(max=20)
    losses, gradient = plain(narrow, targets, 0.1, scales)
    assert torch.allclose(softmax_losses(narrow, targets, 0.1, scales).double(), losses, atol=1e-5)
    assert torch.allclose(narrow.double(), gradient, atol=1e-6)
    assert torch.equal(wide[:, 21:], before[:, 21:])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_within_its_rounding(dtype):
    logits, targets = given_logits(4, 50, dtype)
    scales = torch.full((4,), 64.0, device=DEVICE)
    losses, gradient = plain(logits, targets, 0.1, scales)
    found = softmax_losses(logits, targets, 0.1, scales)
    assert torch.allclose(found.double(), losses, rtol=1e-5, atol=1e-5)
    bound = torch.finfo(dtype).eps * gradient.abs() + 1e-6
    assert ((logits.double() - gradient).abs() <= bound).all()


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_infinite_logits_are_told(value):
    logits, targets = given_logits(2, 9)
    logits[0, 3] = value
    found = softmax_losses(logits, targets, 0.1, torch.ones(2, device=DEVICE))
    assert not torch.isfinite(found[:, 0]).any() and torch.isfinite(found[:, 1]).all()
    assert not torch.isfinite(logits[0]).all() and torch.isfinite(logits[1]).all()


@pytest.mark.parametrize("reduce", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
def test_the_chunked_loss_is_the_same_with_it(monkeypatch, dtype, reduce):
    features, weight, _, target = (
        None if t is None else t.detach().to(DEVICE) for t in problem(40, 16, 200, dtype=dtype)
    )
    counted = torch.arange(40, device=DEVICE) % 5 != 0
    results = []
    for fused in (False, True):
        monkeypatch.setattr(chunked_loss, "fuses", lambda logits, fused=fused: fused)
        inputs = [t.clone().requires_grad_() for t in (features, weight)]
        found = ChunkedLoss(0.1, 16)(*inputs, None, target, reduce, counted)
        results.append([found.loss, found.nll, *gradients(64 * found.loss.sum(), inputs)])
    for mine, theirs in zip(*results):
        assert mine.dtype == theirs.dtype
        assert_close(mine, theirs, 4 * torch.finfo(mine.dtype).eps)
    kept = features[counted], weight, None, target[counted]
    assert_close(results[1][0].sum(), fairseqs(*kept, 0.1)[0], 1e-2 if dtype in HALF else 1e-5)
