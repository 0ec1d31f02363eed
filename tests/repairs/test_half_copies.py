"""The optimiser's copies of weights and gradients, against fairseq's own."""

import pytest
import torch

from admin_fairseq.repairs import half_copies, private
from admin_fairseq.repairs.private import HalfPrecisionOptimizer as Optimizer


def optimizer(flat, frozen=False, missing=False):
    """fairseq's optimiser without its optimiser: weights in bfloat16, and copies in float32."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    found = object.__new__(Optimizer)
    found.fp16_params = [torch.nn.Parameter(draw(*s).bfloat16()) for s in ((3, 2), (4,), (2, 1, 5))]
    count = sum(p.numel() for p in found.fp16_params)
    for parameter in found.fp16_params:
        parameter.grad = draw(*parameter.shape).bfloat16()
    found.fp16_params[1].requires_grad_(not frozen)
    if missing:
        found.fp16_params[1].grad = None
    if flat:
        whole = torch.nn.Parameter(draw(count))
        whole.grad = draw(count)
        found.fp32_params = {None: whole}  # by device; a CPU has no number
    else:
        found.fp32_params = [torch.nn.Parameter(draw(*p.shape)) for p in found.fp16_params]
        for p32 in found.fp32_params[:2]:
            p32.grad = draw(*p32.shape)
    found._needs_sync = True
    return found


def state(found):
    flat = found.fp32_params
    flat = list(flat.values()) if isinstance(flat, dict) else flat
    tensors = [*found.fp16_params, *flat, *(p.grad for p in flat)]
    return [None if t is None else t.detach().clone() for t in tensors]


CASES = [(flat, f, m) for flat in (True, False) for f in (True, False) for m in (True, False)]


@pytest.mark.parametrize(("flat", "frozen", "missing"), CASES)
@pytest.mark.parametrize("way", ["gradients", "weights"])
def test_they_are_fairseqs(flat, frozen, missing, way):
    functions = {
        "gradients": (private.GRADIENTS_TO_FLOAT32, half_copies.gradients_to_float32),
        "weights": (private.WEIGHTS_TO_HALF, half_copies.weights_to_half),
    }
    results = []
    for function in functions[way]:
        found = optimizer(flat, frozen, missing)
        before = state(found)
        for _ in range(2):  # the second time with what the first one kept
            function(found)
            if way == "gradients":
                assert not found._needs_sync
                found._needs_sync = True
        results.append(state(found))
        changed = zip(before, results[-1])
        assert any(a is None or not torch.equal(a, b) for a, b in changed)
    for mine, theirs in zip(*results):
        assert (mine is None) == (theirs is None)
        assert mine is None or (mine.dtype == theirs.dtype and torch.equal(mine, theirs))


def test_nothing_is_copied_twice():
    found = optimizer(flat=True)
    found._needs_sync = False
    before = state(found)
    half_copies.gradients_to_float32(found)
    assert all(torch.equal(a, b) for a, b in zip(before, state(found)))


def test_the_repair_is_applied():
    assert Optimizer._sync_fp16_grads_to_fp32 is half_copies.gradients_to_float32
    assert Optimizer._sync_fp32_params_to_fp16 is half_copies.weights_to_half
