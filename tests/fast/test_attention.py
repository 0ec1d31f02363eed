"""Our attention against fairseq's: the same parameters, the same numbers."""

from types import SimpleNamespace

import pytest
import torch
from fairseq.modules import MultiheadAttention
from hypothesis import given, settings
from hypothesis import strategies as st

from admin_fairseq.fast import attention
from admin_fairseq.fast.attention import (
    Attention,
    attend,
    attend_in_row_plainly,
    attend_plainly,
    compared,
    join,
    reads_rows,
)
from admin_fairseq.fast.layout import Layout, visible
from admin_fairseq.kernels.trial import works
from admin_fairseq.modules.inputs import Shift, put_before

from ..conftest import exact_softmax
from .test_layout import padding_of

PRECISIONS = [(torch.float64, 1e-12), (torch.float32, 1e-6)]
SELF = {"self_attention": True}
CROSS = {"encoder_decoder_attention": True, "kdim": 12, "vdim": 12}


def both(dtype=torch.float64, **kind):
    """Our attention and fairseq's, C = 8, two heads, with the same random parameters."""
    torch.manual_seed(0)
    ours, theirs = Attention(8, 2, **kind).to(dtype), MultiheadAttention(8, 2, **kind).to(dtype)
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    return ours, theirs


def gradients(module, out, *inputs):
    wanted = [*inputs, *module.parameters()]
    return torch.autograd.grad(out.sum(), wanted, retain_graph=True, allow_unused=True)


def assert_close(found, expected, bound):
    """Relative to the largest element of all, or to 1."""
    scale = max([1.0, *(float(t.abs().max()) for t in expected if t is not None and t.numel())])
    for one, other in zip(found, expected):
        assert (one is None) == (other is None)
        if one is not None:
            assert torch.allclose(one, other, rtol=0, atol=bound * scale)


@st.composite
def batches(draw, empty=False):
    """(lengths, time, left): sentences of which the longest fills the time."""
    time = draw(st.integers(1, 7))
    lengths = [time, *(draw(st.lists(st.integers(0 if empty else 1, time), max_size=4)))]
    return lengths, time, draw(st.booleans())


def padding(lengths, time, left):
    return padding_of([time - n if left else 0 for n in lengths], lengths, time)


@settings(deadline=None, max_examples=40)
@given(batches(), st.booleans(), st.sampled_from(PRECISIONS))
def test_self_attention_equals_fairseqs(batch, causal, precision):
    dtype, bound = precision
    ours, theirs = both(dtype, **SELF)
    padded, time = padding(*batch), batch[1]
    if causal and batch[2]:
        return  # fairseq's queries on left padding see nothing, and make everything NaN
    x = torch.randn(time, len(padded), 8, dtype=dtype, requires_grad=True)
    future = torch.full((time, time), -torch.inf, dtype=dtype).triu(1) if causal else None
    real = ~padded.t()
    expected, _ = theirs(x, x, x, padded, attn_mask=future, need_weights=False)
    layout = Layout.of(padded, causal)
    packed = layout.pack(x)
    found, _ = ours(packed, packed, packed, need_weights=False, layouts=(layout, layout))
    found = layout.unpack(found)
    assert_close([found[real]], [expected[real]], bound)
    assert_close(gradients(ours, found[real], x), gradients(theirs, expected[real], x), bound)


@settings(deadline=None, max_examples=40)
@given(batches(), batches(), st.booleans())
def test_attention_to_the_encoder_equals_fairseqs(mine, other, heads):
    ours, theirs = both(**CROSS)
    count = min(len(mine[0]), len(other[0]))
    queries, keys = padding(*mine)[:count], padding(*other)[:count]
    x = torch.randn(mine[1], count, 8, dtype=torch.float64, requires_grad=True)
    memory = torch.randn(other[1], count, 12, dtype=torch.float64, requires_grad=True)
    asks = {"need_weights": True, "need_head_weights": heads, "static_kv": True}
    with exact_softmax():
        expected, weights = theirs(x, memory, memory, keys, **asks)
    here, there = Layout.of(queries), Layout.of(keys)
    packed = here.pack(x), there.pack(memory), there.pack(memory)
    real = ~queries.t()
    wanted = [expected[real], *gradients(theirs, expected[real], x, memory)]
    for asked in (asks, {"need_weights": False}):
        found, shown = ours(*packed, layouts=(here, there), **asked)
        found = here.unpack(found)[real]
        assert_close([found, *gradients(ours, found, x, memory)], wanted, 1e-12)
        assert (shown is not None) == asked["need_weights"]
    shown = ours(*packed, layouts=(here, there), **asks)[1]
    real = (~queries)[None, :, :, None] if heads else (~queries)[:, :, None]
    assert_close([shown * real], [weights * real], 1e-12)


@settings(deadline=None, max_examples=25)
@given(batches(empty=True), st.booleans())
def test_empty_rows_change_nothing_for_the_others(batch, causal):
    """fairseq's softmax has no term there: its loss and all its gradients are NaN."""
    ours, _ = both(**SELF)
    padded = padding(*batch)
    x = torch.randn(batch[1], len(padded), 8, dtype=torch.float64, requires_grad=True)
    results = []
    for rows in (torch.arange(len(padded)), (~padded).any(1).nonzero().squeeze(1)):
        layout = Layout.of(padded[rows], causal)
        packed = layout.pack(x[:, rows])
        out, _ = ours(packed, packed, packed, layouts=(layout, layout))
        out = layout.unpack(out)[~padded[rows].t()]
        results.append([out, *gradients(ours, out, x)])
    assert torch.isfinite(results[0][1]).all()
    assert_close(*results, 1e-12)


class Noisy(torch.nn.Linear):
    """What fairseq's --quant-noise-scalar makes of a linear map."""

    def forward(self, x):
        return super().forward(x) + 1


def test_a_map_that_is_more_than_a_product_is_called():
    ours, _ = both(**SELF)
    ours.v_proj.__class__ = Noisy
    maps, x = (ours.q_proj, ours.k_proj, ours.v_proj), torch.randn(3, 2, 8, dtype=torch.float64)
    assert torch.equal(join(*maps)(x), torch.cat([linear(x) for linear in maps], -1))


def test_one_product_for_all_maps_unless_something_stands_before_them():
    ours, _ = both(**SELF)
    maps = ours.q_proj, ours.k_proj, ours.v_proj
    x = torch.randn(3, 2, 8, dtype=torch.float64)
    expected = torch.cat([linear(x) for linear in maps], -1)
    assert torch.allclose(join(*maps)(x), expected, rtol=1e-14)
    put_before(ours, "k_proj", Shift, heads=2)
    ours.k_proj.before.shift.data.fill_(1.0)
    shifted = torch.cat([maps[0](x), maps[1](x), maps[2](x)], -1)
    assert not torch.equal(shifted, expected)
    assert torch.equal(join(*maps)(x), shifted)


@settings(deadline=None, max_examples=25)
@given(batches(), st.booleans())
def test_torchs_kernel_equals_the_plain_one(batch, causal):
    padded = padding(*batch)
    q, k, v = torch.randn(3, len(padded), 2, batch[1], 4, dtype=torch.float64).unbind(0)
    layout = Layout.of(padded, causal)
    mask = layout.mask
    found, nothing = attend(q, k, v, mask, layout.causal, False, 0.0)
    expected, weights = attend_plainly(q, k, v, mask, layout.causal, 0.0)
    assert nothing is None and torch.allclose(found, expected, rtol=1e-12, atol=1e-14)
    assert torch.allclose(weights.sum(-1), torch.ones_like(weights.sum(-1)))


def test_half_precision_on_a_cpu_is_within_its_rounding(monkeypatch):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 4, 2, 6, 8).unbind(0)
    mask = visible(padding_of([0] * 4, [6, 3, 1, 0], 6))
    exact, _ = attend_plainly(q.double(), k.double(), v.double(), mask, False, 0.0)
    found, _ = attend(q.bfloat16(), k.bfloat16(), v.bfloat16(), mask, False, False, 0.0)
    assert found.dtype == torch.bfloat16
    assert (found - exact).abs().max() < 4 * torch.finfo(torch.bfloat16).eps * v.abs().max()
    calls = []
    monkeypatch.setattr(
        attention.F, "scaled_dot_product_attention", lambda *a, **k: calls.append(a) or (q, None)
    )
    attend(q, k, v, mask, False, False, 0.0)
    attend(q.bfloat16(), k.bfloat16(), v.bfloat16(), mask, False, False, 0.0)
    assert len(calls) == 1, "float32 takes torch's kernel, half precision does not on a CPU"


def rounded(q, k, v, mine, theirs, dropout):
    """As flash attention: float32 within, of inputs and outputs in half precision."""
    out = attend_in_row_plainly(q.float(), k.float(), v.float(), mine, theirs, dropout)
    return out.type_as(q)


@pytest.fixture
def gpu(monkeypatch):
    """A chip with flash attention; returns what its trials compared."""
    tried = []

    def trial(head_dim, device, dtype):
        tried.append(compared(head_dim, device, dtype))
        return tried[-1]

    for cached in (works, attention._comparing, attention._has_flash_attention):
        cached.cache_clear()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(attention, "attend_in_row", rounded)
    monkeypatch.setattr(attention, "compared", trial)
    yield tried
    for cached in (works, attention._comparing, attention._has_flash_attention):
        cached.cache_clear()


def on_gpu(dtype):
    """As much of a tensor on a GPU as is asked for."""
    size = torch.empty(0, dtype=dtype).element_size()
    cpu = torch.device("cpu")
    return SimpleNamespace(is_cuda=True, element_size=lambda: size, device=cpu, dtype=dtype)


ROWS = [
    (torch.float16, 64, True),
    (torch.bfloat16, 64, True),
    (torch.float32, 64, False),
    (torch.float16, 192, True),
    (torch.float16, 200, False),
    (torch.float16, 20, False),
]


@pytest.mark.parametrize(("dtype", "width", "expected"), ROWS)
def test_rows_are_for_half_precision_and_heads_that_the_kernel_takes(gpu, dtype, width, expected):
    assert reads_rows(on_gpu(dtype), width) == expected == bool(gpu)
    assert reads_rows(on_gpu(dtype), width) == expected and len(gpu) == expected, "tried once"
    names = {
        f"{what}, {of}" for what in ("output", "dq", "dk", "dv") for of in ("itself", "others")
    }
    assert all(set(compared) == names for compared in gpu)
    assert not reads_rows(torch.empty(1, dtype=dtype), width), "a CPU has no such kernel"


def test_each_width_is_tried(gpu):
    assert reads_rows(on_gpu(torch.float16), 64) and reads_rows(on_gpu(torch.float16), 192)
    assert [compared["dq, others"][0].shape[-1] for compared in gpu] == [64, 192]


@pytest.mark.parametrize("need_weights", [False, True])
def test_who_asks_for_weights_gets_them(need_weights, monkeypatch):
    asked = []
    monkeypatch.setattr(attention, "reads_rows", lambda x, width: asked.append(width) or True)
    ours = both(**SELF)[0]
    layout = Layout.of(padding([4, 2], 4, False), in_row=True)
    x = torch.randn(4, 2, 8, dtype=torch.float64)
    out, weights = ours(*[layout.pack(x)] * 3, need_weights=need_weights, layouts=(layout, layout))
    assert (weights is not None) == need_weights and asked == ([] if need_weights else [4])
    padded = Layout.of(padding([4, 2], 4, False))
    expected, _ = ours(*[padded.pack(x)] * 3, layouts=(padded, padded))
    assert torch.allclose(out, expected, rtol=1e-12)


def test_rows_are_for_chips_from_ampere_on(gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert not reads_rows(on_gpu(torch.float16), 64) and not gpu


def fails(*args):
    raise RuntimeError("no kernel image is available")


def forgets_causality(q, k, v, mine, theirs, dropout):
    return rounded(q, k, v, mine, theirs._replace(causal=False), dropout)


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [(fails, "no kernel image"), (forgets_causality, "wrong numbers (output, itself")],
)
def test_a_kernel_for_rows_that_fails_is_not_used(gpu, kernel, reason, monkeypatch, caplog):
    monkeypatch.setattr(attention, "attend_in_row", kernel)
    for _ in range(2):
        assert not reads_rows(on_gpu(torch.bfloat16), 64)
    (message,) = caplog.messages
    assert "attention without padding: the fast kernel does not work" in message
    assert reason in message


@pytest.mark.parametrize("need_weights", [False, True])
def test_attention_drops_weights_in_training_only(need_weights):
    ours = both(**SELF, dropout=0.5)[0]
    x = torch.randn(5, 3, 8, dtype=torch.float64)

    def run():
        return ours(x, x, x, need_weights=need_weights, layouts=(Layout(), Layout()))[0]

    torch.manual_seed(1)
    first = run()
    assert not torch.equal(first, run())
    ours.eval()
    expected = both(**SELF)[0].eval()
    assert torch.allclose(run(), expected(x, x, x)[0], rtol=1e-12)
