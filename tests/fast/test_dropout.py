"""Dropout drawn from 16 bits an element."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from admin_fairseq.fast.dropout import STEPS, Dropout, kept


@settings(deadline=None, max_examples=25)
@given(st.integers(1, STEPS - 1), st.integers(0, 99))
def test_as_many_are_dropped_as_asked(dropped, seed):
    torch.manual_seed(seed)
    count, p = 200_001, 1 - dropped / STEPS  # no multiple of four
    mask = kept(count, dropped)
    assert mask.shape == (count,) and mask.dtype == torch.bool
    assert abs(int(mask.sum()) - count * p) <= 6 * math.sqrt(count * p * (1 - p)) + 1


def test_draws_do_not_depend_on_their_neighbours():
    torch.manual_seed(0)
    mask = kept(400_000, STEPS // 2).double() - 0.5
    for distance in (1, 2, 3, 4, 8):  # four share one draw of the generator
        correlation = (mask[distance:] * mask[:-distance]).mean() / 0.25
        assert abs(correlation) < 0.008


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_is_kept_is_scaled_and_so_are_its_gradients(dtype):
    torch.manual_seed(1)
    x = torch.rand(50, 7, 11).add(0.5).to(dtype).requires_grad_()
    y = Dropout(0.1)(x)
    y.backward(torch.full_like(y, 2))
    mask = y != 0
    scale = STEPS / (STEPS - round(0.1 * STEPS))
    assert scale == pytest.approx(1 / 0.9, rel=2e-5)
    assert torch.equal(y, (x * mask).mul(scale)) and 0.85 < mask.double().mean() < 0.95
    assert torch.equal(x.grad, (2 * mask).to(dtype).mul(scale))


def test_the_same_seed_drops_the_same():
    x, module = torch.ones(1000), Dropout(0.3)
    torch.manual_seed(2)
    first, second = module(x), module(x)
    torch.manual_seed(2)
    assert torch.equal(module(x), first) and not torch.equal(first, second)


def test_only_where_fairseq_drops():
    x, module = torch.ones(1000), Dropout(0.5).eval()
    assert module(x) is x
    module.make_generation_fast_("it", retain_dropout=True)
    assert not torch.equal(module(x), x)
    assert Dropout(0.0)(x) is x
    assert Dropout(1.0)(x).eq(0).all()
