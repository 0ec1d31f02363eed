"""Weights in half precision, as with --memory-efficient-fp16 and -bf16."""

from itertools import chain

import pytest
import torch
from fairseq.dataclass.configs import FairseqConfig
from fairseq.optim.adam import Adam
from fairseq.optim.fp16_optimizer import MemoryEfficientFP16Optimizer
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from admin_fairseq.optim import adam_steps, half_precision
from admin_fairseq.optim.adam_options import AdamOptions
from admin_fairseq.optim.adam_steps import AdamSteps
from admin_fairseq.optim.half_precision import copy_back, in_float32, in_parts
from admin_fairseq.optim.novograd import NovoGrad
from admin_fairseq.optim.radam import RAdam

HALVES = [torch.float16, torch.bfloat16]
OURS = {"adam_fused": AdamSteps, "radam": RAdam, "novograd": NovoGrad}
OPTIONS = {"lr": 0.01, "betas": (0.9, 0.98), "eps": 1e-6, "weight_decay": 0.01}
SHAPES = [(3, 4), (5,), ()]


def weights(dtype):
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(s, generator=generator).to(dtype)) for s in SHAPES]


def updates(optimizer, first, last):
    """Updates ``first`` to ``last``, whose gradients depend on their number alone."""
    params = optimizer.param_groups[0]["params"]
    for number in range(first, last + 1):
        generator = torch.Generator().manual_seed(number)
        for p in params:
            p.grad = torch.randn(p.shape, generator=generator).type_as(p)
        optimizer.step()


def state_of(optimizer):
    return [optimizer.state[p] for p in optimizer.param_groups[0]["params"]]


@pytest.mark.parametrize("most", [1, 1 << 24])
@pytest.mark.parametrize("dtype", HALVES)
def test_steps_are_fairseqs(dtype, most, monkeypatch):
    monkeypatch.setattr(half_precision, "MOST_COPIED", most)
    theirs, ours = Adam(weights(dtype), **OPTIONS), AdamSteps(weights(dtype), **OPTIONS)
    for number in range(1, 31):
        updates(theirs, number, number)
        updates(ours, number, number)
        for one, other in zip(*(o.param_groups[0]["params"] for o in (theirs, ours))):
            # a sum at the middle between two numbers may be rounded either way
            assert torch.allclose(one, other, rtol=torch.finfo(dtype).eps, atol=1e-6)
            other.data.copy_(one)
    for one, other in zip(state_of(theirs), state_of(ours)):
        assert other["exp_avg"].dtype == other["exp_avg_sq"].dtype == torch.float32
        assert torch.allclose(one["exp_avg"], other["exp_avg"], rtol=1e-6, atol=1e-7)
        assert torch.allclose(one["exp_avg_sq"], other["exp_avg_sq"], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", OURS)
def test_each_step_is_that_of_float32_rounded(name, dtype):
    half = OURS[name](weights(dtype), **OPTIONS)
    exact = OURS[name]([torch.nn.Parameter(p.detach().float()) for p in weights(dtype)], **OPTIONS)
    for number in range(1, 9):  # RAdam's first steps are of the weight decay alone
        updates(half, number, number)
        for one, other in zip(*(o.param_groups[0]["params"] for o in (half, exact))):
            other.grad = one.grad.float()
        exact.step()
        for one, other in zip(*(o.param_groups[0]["params"] for o in (half, exact))):
            assert torch.equal(one, other.to(dtype))
            other.data.copy_(one)
    assert not any(map(torch.equal, half.param_groups[0]["params"], weights(dtype)))


@pytest.mark.parametrize("name", OURS)
def test_small_steps_are_those_of_float32_rounded(name):
    """In bfloat16, the moments of many small gradients would stand still."""
    options = {**OPTIONS, "lr": 0.0, "weight_decay": 0.0}
    half, exact = (OURS[name](weights(dtype), **options) for dtype in (HALVES[1], torch.float32))
    for optimizer in (half, exact):
        for p in optimizer.param_groups[0]["params"]:
            p.grad = torch.full_like(p, 2**-9)
        for _ in range(200):
            optimizer.step()
    for one, other in zip(state_of(half), state_of(exact)):
        for key in ("exp_avg", "exp_avg_sq"):
            assert torch.allclose(one[key], other[key], rtol=1e-5)


def wrapped(name, dtype):
    """The optimiser as fairseq wraps it for --memory-efficient-fp16 or -bf16."""
    cfg = OmegaConf.structured(FairseqConfig())
    cfg.common.bf16 = dtype == torch.bfloat16
    options = AdamOptions(adam_betas=(0.9, 0.98), adam_eps=1e-6, weight_decay=0.01, lr=[0.01])
    cfg.optimizer = OmegaConf.merge(OmegaConf.structured(options), {"_name": name})
    return MemoryEfficientFP16Optimizer.build_optimizer(cfg, weights(dtype))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", OURS)
def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(name, dtype):
    straight, resumed = wrapped(name, dtype), wrapped(name, dtype)
    assert type(straight.optimizer) is OURS[name]
    updates(straight.optimizer, 1, 8)
    resumed.load_state_dict(straight.state_dict())
    params = zip(*(o.optimizer.param_groups[0]["params"] for o in (resumed, straight)))
    for one, other in params:
        one.data.copy_(other)
    for one, other in zip(state_of(straight.optimizer), state_of(resumed.optimizer)):
        assert one.keys() == other.keys()
        assert all(torch.equal(torch.as_tensor(one[k]), torch.as_tensor(other[k])) for k in one)
        assert one["exp_avg"].data_ptr() != other["exp_avg"].data_ptr()
    updates(straight.optimizer, 9, 12)
    updates(resumed.optimizer, 9, 12)
    params = zip(*(o.optimizer.param_groups[0]["params"] for o in (resumed, straight)))
    assert all(torch.equal(one, other) for one, other in params)


@pytest.mark.parametrize("name", OURS)
def test_moments_of_several_groups_are_loaded(name):
    """Some of their weights have no gradient."""
    first, second = (
        OURS[name]([{"params": group} for group in (p[:1], p[1:])], **OPTIONS)
        for p in (weights(torch.bfloat16), weights(torch.bfloat16))
    )
    for group in first.param_groups:
        group["params"][0].grad = torch.full_like(group["params"][0], 0.1)
    first.step()
    second.load_state_dict(first.state_dict())
    for mine, loaded in zip(first.param_groups, second.param_groups):
        for one, other in zip(mine["params"], loaded["params"]):
            states = first.state.get(one, {}), second.state.get(other, {})
            assert states[0].keys() == states[1].keys()
            assert all(torch.equal(states[0][k], states[1][k]) for k in states[0] if k != "step")


def test_weights_are_copied_part_by_part(monkeypatch):
    calls = []
    adamw = adam_steps.adamw
    monkeypatch.setattr(
        adam_steps, "adamw", lambda w, *a, **k: calls.append(len(w)) or adamw(w, *a, **k)
    )
    monkeypatch.setattr(half_precision, "MOST_COPIED", 12)
    updates(AdamSteps(weights(torch.bfloat16), **OPTIONS), 1, 1)
    assert calls == [1, 2]  # of 12, 5 and 1 elements


@pytest.mark.parametrize(
    ("sizes", "most", "expected"),
    [
        ([3, 3, 3], 6, [2, 1]),
        ([7, 1, 1], 6, [1, 2]),
        ([1, 7], 6, [1, 1]),
        ([0, 0, 9], 6, [2, 1]),
        ([], 6, []),
    ],
)
def test_a_part_is_as_large_as_it_may_be(sizes, most, expected, monkeypatch):
    monkeypatch.setattr(half_precision, "MOST_COPIED", most)
    halves = [torch.zeros(n, dtype=torch.half) for n in sizes]
    assert [len(part) for part in in_parts(halves)] == expected
    singles = [torch.zeros(99) for _ in sizes]  # are not copied
    assert [len(part) for part in in_parts(singles)] == ([len(sizes)] if sizes else [])


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans())), st.integers(1, 9))
def test_a_part_copies_no_more_than_it_may(drawn, most):
    params = [torch.zeros(n, dtype=torch.half if half else torch.float) for n, half in drawn]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(half_precision, "MOST_COPIED", most)
        parts = list(in_parts(params))
    assert all(one is other for one, other in zip(chain(*parts), params))
    assert sum(map(len, parts)) == len(params)
    for part in parts:
        assert part
        halves = [p.numel() for p in part if p.dtype == torch.half]
        assert sum(halves) <= most or sum(map(bool, halves)) == 1


def test_only_half_precision_is_copied():
    half, single, double = (torch.ones(2, dtype=d) for d in (torch.half, torch.float, torch.double))
    copies = in_float32([half, single, double])
    assert copies[1] is single and copies[2] is double
    copies[0].add_(1)
    assert half.eq(1).all()
    copy_back([half, single, double], copies)
    assert half.eq(2).all() and single.eq(1).all()
