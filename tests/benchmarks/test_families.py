from types import SimpleNamespace

import pytest
import torch
from torch.profiler import ProfilerActivity, profile, record_function

from admin_fairseq.benchmarks.families import family_of, operators


@pytest.mark.parametrize(
    ("name", "ancestors", "family"),
    [
        ("aten::addmm", [], "matrix products"),
        ("aten::bmm", ["BmmBackward0"], "matrix products"),
        ("aten::addmm_", ["_LossBackward"], "matrix products"),
        ("aten::mm", ["_Loss", "forward"], "matrix products"),
        ("aten::sub_", ["_LossBackward"], "loss"),
        ("aten::_log_softmax", [], "loss"),
        ("aten::_softmax_backward_data", [], "softmax"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", [], "attention kernel"),
        ("aten::div_", ["aten::dropout"], "dropout"),
        ("aten::bernoulli_", [], "dropout"),
        ("aten::native_layer_norm_backward", [], "layer norm"),
        ("aten::mul", [], "elementwise"),
        ("aten::mul", ["aten::addcmul_", "optimizer"], "optimiser"),
        ("aten::copy_", ["aten::contiguous"], "copies"),
        ("aten::zero_", [], "memory"),
        ("aten::masked_fill_", [], "masks"),
        ("aten::embedding_dense_backward", [], "embedding"),
        ("aten::transpose", [], "views and bookkeeping"),
        ("aten::fft", [], "other"),
    ],
)
def test_families(name, ancestors, family):
    assert family_of(name, ancestors) == family


def event(name, seconds, parent=None):
    return SimpleNamespace(name=name, self_cpu_time_total=1e6 * seconds, cpu_parent=parent)


def test_calls_of_one_kind_are_added_up():
    step = event("optimizer", 1.0)
    seen = [event("aten::mul", 2.0), event("aten::mul", 0.5), event("aten::mul", 4.0, step), step]
    seen.append(event("forward", 9.0))  # fairseq's own word: Python between the operators
    assert [tuple(one) for one in operators(seen, on_gpu=False)] == [
        ("aten::mul", "optimiser", 1, 4.0),
        ("aten::mul", "elementwise", 2, 2.5),
        ("optimizer", "optimiser", 1, 1.0),
    ]


def test_what_torch_reports():
    x = torch.randn(50, 50, requires_grad=True)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        (x @ x).log_softmax(-1).sum().backward()
        with record_function("optimizer"):
            x.detach().add_(1)
    families = {one.family for one in operators(profiler.events(), on_gpu=False)}
    assert {"matrix products", "loss", "optimiser"} <= families
