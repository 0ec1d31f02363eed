"""The maths, against fairseq's function on logits that are held at once."""

import pytest
import torch
from fairseq.criterions.label_smoothed_cross_entropy import label_smoothed_nll_loss
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from admin_fairseq.kernels.chunked_loss import ChunkedLoss
from tests.conftest import HALF


def problem(tokens=7, channels=5, types=11, seed=0, dtype=torch.float64, bias=False):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        drawn = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return drawn.to(dtype).requires_grad_()

    target = torch.randint(types, (tokens,), generator=generator)
    return draw(tokens, channels), draw(types, channels), draw(types) if bias else None, target


def fairseqs(features, weight, bias, target, smoothing, reduce=True):
    """Loss and −log p of the targets, single ones N x 1; log p is float32 or float64."""
    logits = torch.nn.functional.linear(features, weight, bias)
    exact = torch.promote_types(logits.dtype, torch.float32)
    log_p = torch.log_softmax(logits, dim=-1, dtype=exact)
    return label_smoothed_nll_loss(log_p, target, smoothing, ignore_index=-1, reduce=reduce)


def gradients(loss, inputs):
    given = [x for x in inputs if x is not None and x.requires_grad]
    return torch.autograd.grad(loss, given)


def assert_close(found, expected, tolerance):
    """Up to ``tolerance`` of the largest number."""
    assert found.shape == expected.shape
    assert (found.double() - expected.double()).abs().max() <= tolerance * expected.abs().max()


smoothings = st.sampled_from([0.0, 0.1, 0.5])
problems = st.builds(
    problem,
    tokens=st.integers(1, 9),
    channels=st.integers(1, 5),
    types=st.integers(2, 20),
    seed=st.integers(0, 99),
    bias=st.booleans(),
)


@settings(deadline=None, max_examples=30)
@given(problems, smoothings, st.integers(1, 12), st.floats(0.1, 1000))
def test_sums_and_gradients_are_fairseqs(given, smoothing, chunk, above):
    inputs = given[:3]
    expected, expected_nll = fairseqs(*given, smoothing)
    found = ChunkedLoss(smoothing, chunk)(*given)
    assert_close(found.loss, expected, 1e-13)
    assert_close(found.nll, expected_nll, 1e-13)
    for mine, theirs in zip(
        gradients(above * found.loss, inputs), gradients(above * expected, inputs)
    ):
        assert mine.dtype == torch.float64
        assert_close(mine, theirs, 1e-12)


@settings(deadline=None, max_examples=20)
@given(problems, smoothings, st.integers(1, 12))
def test_single_losses_are_fairseqs_each_with_its_gradient(given, smoothing, chunk):
    *inputs, target = given
    expected = [x.squeeze(1) for x in fairseqs(*given, smoothing, reduce=False)]
    found = ChunkedLoss(smoothing, chunk)(*given, reduce=False)
    assert_close(found.loss, expected[0], 1e-13)
    assert_close(found.nll, expected[1], 1e-13)
    factors = torch.linspace(-1, 2, len(target), dtype=torch.float64)
    mine, theirs = (gradients(x @ factors, inputs) for x in (found.loss, expected[0]))
    for left, right in zip(mine, theirs):
        assert_close(left, right, 1e-12)


@pytest.mark.parametrize("types", [50, 3000])
def test_float32_is_as_exact_as_fairseqs(types):
    given = problem(tokens=60, channels=16, types=types, dtype=torch.float32)
    *inputs, target = given
    exact = [None if x is None else x.double().detach().requires_grad_() for x in inputs]
    truth = fairseqs(*exact, target, 0.1)[0]
    found, theirs = ChunkedLoss(0.1, 16)(*given).loss, fairseqs(*given, 0.1)[0]
    assert_close(found, truth, 1e-6)
    assert found.dtype == torch.float32
    for mine, other, true in zip(
        gradients(found, inputs), gradients(theirs, inputs), gradients(truth, exact)
    ):
        assert_close(mine, true, 1e-6)
        assert (mine - true).norm() <= 1.1 * (other - true).norm()


@pytest.mark.parametrize("reduce", [True, False])
@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_is_as_exact_as_fairseqs(dtype, reduce):
    """Its loss is scaled, as fairseq does with float16."""
    given = problem(tokens=90, channels=16, types=3000, dtype=dtype)
    *inputs, target = given
    exact = [None if x is None else x.double().detach().requires_grad_() for x in inputs]
    truth = 64 * fairseqs(*exact, target, 0.1)[0]
    theirs = 64 * fairseqs(*given, 0.1)[0]
    found = 64 * ChunkedLoss(0.1, 32)(*given, reduce).loss.sum()
    assert found.dtype == torch.float32
    assert abs(found - truth) <= 1e-3 * truth
    for mine, other, true in zip(
        gradients(found, inputs), gradients(theirs, inputs), gradients(truth, exact)
    ):
        assert mine.dtype == dtype
        assert (mine - true).norm() <= 1.5 * (other - true).norm()


def test_small_gradients_survive_float16():
    """A type that nobody says gets a gradient that float16 would round, p = e⁻¹² or so."""
    if torch.float16 not in HALF:
        pytest.skip("torch cannot multiply it on a CPU")
    features, weight = torch.ones(2, 8), torch.zeros(40000, 8)
    target = torch.tensor([3, 5])
    weight[target] = 1.5
    found = []
    for dtype in (torch.float16, torch.float64):
        inputs = [x.to(dtype, copy=True).requires_grad_() for x in (features, weight)]
        loss = ChunkedLoss(0.0)(*inputs, None, target).loss
        found.append(gradients(1024 * loss, inputs)[1][7])
    assert_close(found[0], found[1], 2e-3)


def test_products_in_a_lower_precision_change_no_dtype():
    given = problem(tokens=40, channels=16, types=200, dtype=torch.float32)
    *inputs, _ = given
    with torch.autocast("cpu", torch.bfloat16):
        expected, _ = fairseqs(*given, 0.1)
        found = ChunkedLoss(0.1, 16, torch.bfloat16)(*given).loss
        plain = ChunkedLoss(0.1, 16)(*given).loss
    assert found.dtype == torch.float32
    assert_close(found, expected, 1e-5)
    assert not torch.equal(found, plain) and torch.equal(plain, ChunkedLoss(0.1, 16)(*given).loss)
    for mine, theirs in zip(gradients(found, inputs), gradients(expected, inputs)):
        assert mine.dtype == torch.float32
        assert_close(mine, theirs, 1e-2)


@pytest.mark.parametrize("size", [1e3, 1e30])
def test_large_logits_do_not_overflow(size):
    features = torch.tensor([[size], [-size]], requires_grad=True)
    weight = torch.tensor([[1.0], [0.0], [-1.0]], requires_grad=True)
    found = ChunkedLoss(0.0, 1)(features, weight, None, torch.tensor([0, 1]))
    assert found.loss.item() == pytest.approx(size)
    assert all(torch.isfinite(g).all() for g in gradients(found.loss, [features, weight]))


def test_infinite_logits_are_told():
    """fairseq's float16 skips such an update and lowers the loss scale."""
    features = torch.tensor([[float("inf")], [1.0]], requires_grad=True)
    weight = torch.ones(3, 1, requires_grad=True)
    found = ChunkedLoss(0.1)(features, weight, None, torch.tensor([0, 1]))
    assert not torch.isfinite(found.loss)
    assert not torch.isfinite(gradients(found.loss, [weight])[0]).any()


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_correct_targets_are_counted(chunk):
    features, weight, _, target = problem(tokens=50, types=4)
    expected = (features @ weight.t()).argmax(1).eq(target).sum()
    assert 0 < expected < 50
    assert (
        ChunkedLoss(0.1, chunk, count_correct=True)(features, weight, None, target)[2] == expected
    )
    assert ChunkedLoss(0.1, chunk)(features, weight, None, target)[2] == 0


@pytest.mark.parametrize("reduce", [True, False])
def test_no_tokens_no_loss(reduce):
    features, weight, bias, target = problem(tokens=0, bias=True)
    found = ChunkedLoss(0.1)(features, weight, bias, target, reduce)
    assert found.loss.sum() == found.nll.sum() == 0
    assert found.loss.shape == (() if reduce else (0,))
    found.loss.sum().backward()
    assert weight.grad.shape == weight.shape and not weight.grad.any() and not bias.grad.any()
    assert features.grad.shape == features.shape


def test_backwards_add_up():
    """As in an update of several batches."""
    _, weight, _, _ = problem()
    expected = torch.zeros_like(weight)
    for seed in range(3):
        features, _, _, target = problem(tokens=4 + seed, seed=seed)
        ChunkedLoss(0.1, 3)(features, weight, None, target).loss.backward()
        expected += gradients(fairseqs(features, weight, None, target, 0.1)[0], [weight])[0]
    assert_close(weight.grad, expected, 1e-12)


def test_backward_may_be_repeated_while_the_graph_is_kept():
    features, weight, _, target = problem()
    loss = ChunkedLoss(0.1, 3)(features, weight, None, target).loss
    first = torch.autograd.grad(loss, [weight], 2 * torch.ones_like(loss), retain_graph=True)[0]
    assert torch.equal(first, 2 * torch.autograd.grad(loss, [weight])[0])
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def test_gradients_have_no_gradients():
    features, weight, _, target = problem()
    loss = ChunkedLoss(0.1, 3)(features, weight, None, target).loss
    with pytest.raises(RuntimeError, match="no second derivatives"):
        torch.autograd.grad(loss, features, create_graph=True)


class Watch(TorchDispatchMode):
    """Counts matrix products and keeps the most numbers that one tensor had."""

    def __init__(self):
        super().__init__()
        self.products, self.largest = 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.products += function.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm_)
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        return result


CHUNK, TOKENS, TYPES, CHANNELS = 8, 64, 500, 4


@pytest.mark.parametrize("reduce", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_of_all_tokens_are_never_there(dtype, reduce):
    given = problem(TOKENS, CHANNELS, TYPES, dtype=dtype)
    with Watch() as watch:
        ChunkedLoss(0.1, CHUNK, count_correct=True)(*given, reduce).loss.sum().backward()
    assert given[1].grad is not None
    assert CHUNK * TYPES <= watch.largest <= CHUNK * (TYPES + 32)
    with Watch() as watch:  # the watch sees them where they are
        fairseqs(*given, 0.1)[0].backward()
    assert watch.largest >= TOKENS * TYPES


@pytest.mark.parametrize(
    ("frozen", "products"), [((), 3), ((0,), 2), ((1,), 2), ((0, 1), 1)], ids=str
)
def test_no_product_is_wasted_on_what_is_frozen(frozen, products):
    *inputs, target = problem(TOKENS, CHANNELS, TYPES, bias=True)
    expected = gradients(fairseqs(*inputs, target, 0.1)[0], inputs)
    for i in frozen:
        inputs[i].requires_grad_(False)
    with Watch() as watch:
        ChunkedLoss(0.1, CHUNK)(*inputs, target).loss.backward()
    assert watch.products == products * TOKENS // CHUNK
    for i, (x, gradient) in enumerate(zip(inputs, expected)):
        assert x.grad is None if i in frozen else torch.allclose(x.grad, gradient)


def test_without_gradients_it_only_goes_forward():
    given = problem(TOKENS, CHANNELS, TYPES)
    with Watch() as watch, torch.no_grad():
        found = ChunkedLoss(0.1, CHUNK)(*given)
    assert watch.products == TOKENS // CHUNK
    assert not found.loss.requires_grad
    assert_close(found.loss, fairseqs(*given, 0.1)[0], 1e-13)
