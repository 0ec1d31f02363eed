"""Where tokens lie: packing, and what attention may see."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from admin_fairseq.fast.layout import PACKS_FROM, Layout, note, noted


def padding_of(starts, lengths, time):
    """B x T, True outside of [start, start + length)."""
    at = torch.arange(time)
    return torch.stack([(at < s) | (at >= s + n) for s, n in zip(starts, lengths)])


@st.composite
def paddings(draw):
    time, batch = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    lengths = [draw(st.integers(0, time)) for _ in range(batch)]
    left = draw(st.booleans())
    return padding_of([time - n if left else 0 for n in lengths], lengths, time)


@settings(deadline=None)
@given(paddings(), st.booleans())
def test_unpacking_gives_back_every_token_and_zeros_elsewhere(padding, causal):
    layout = Layout.of(padding, causal)
    batch, time = padding.shape
    x = torch.randn(time, batch, 3)
    packed = layout.pack(x)
    real = ~padding.t()
    if layout.kept is None:
        assert padding.sum() < PACKS_FROM * padding.numel() or not padding.any()
        assert packed is x and layout.unpack(x) is x
    else:
        assert packed.shape == (int(real.sum()), 1, 3)
        assert torch.equal(layout.unpack(packed), x * real.unsqueeze(-1))


@settings(deadline=None)
@given(paddings(), st.booleans())
def test_tokens_see_the_tokens_they_should_and_nothing_else(padding, causal):
    layout = Layout.of(padding, causal)
    batch, time = padding.shape
    order = torch.ones(time, time, dtype=torch.bool).tril() if causal else True
    expected = ~padding[:, None, :] & order
    seen = torch.ones(batch, time, time, dtype=torch.bool)
    if layout.mask is not None:
        assert not layout.causal
        seen = layout.mask.expand(batch, 1, time, time)[:, 0]
    elif layout.causal:
        seen = seen.tril()
    real = ~padding
    assert torch.equal(seen[real], expected.expand(batch, time, time)[real])
    assert seen.any(-1).all(), "a softmax without a term"


def test_no_mask_where_none_is_needed():
    nothing = torch.zeros(2, 4, dtype=torch.bool)
    assert Layout.of(nothing) == Layout.of(None) == Layout()
    assert Layout.of(nothing, causal=True) == Layout(causal=True)
    right = Layout.of(padding_of([0, 0], [4, 2], 4), causal=True)
    assert right.causal and right.mask is None
    left = Layout.of(padding_of([0, 2], [4, 2], 4), causal=True)
    assert not left.causal and left.mask.shape == (2, 1, 4, 4)
    assert Layout.of(padding_of([0, 2], [4, 2], 4)).mask.shape == (2, 1, 1, 4)


def test_little_padding_is_not_worth_packing():
    assert Layout.of(padding_of([0] * 10, [9] + [10] * 9, 10)).kept is None
    assert Layout.of(padding_of([0] * 10, [5] + [10] * 9, 10)).kept is not None


@settings(deadline=None)
@given(paddings(), st.booleans())
def test_a_row_has_the_sentences_one_after_another(padding, causal):
    layout = Layout.of(padding, causal, in_row=True)
    tokens = torch.arange(padding.numel()).view(padding.shape)
    packed = layout.pack(tokens.t()[..., None])[:, 0, 0]
    starts = layout.row.starts.tolist()
    sentences = [packed[a:b].tolist() for a, b in zip(starts, starts[1:])]
    assert sentences == [row[~there].tolist() for row, there in zip(tokens, padding)]
    assert layout.row.causal is causal and layout.row.starts.dtype == torch.int32
    assert layout.row.longest >= max(map(len, sentences))
    other = Layout.of(padding, causal)
    assert (layout.mask is None) == (other.mask is None) and layout.causal == other.causal


def test_a_note_is_void_once_tokens_have_changed():
    tokens = torch.ones(2, 3)
    assert noted(tokens, "encoder") is None
    note(tokens, Layout(causal=True), "encoder")
    assert noted(tokens, "encoder") == Layout(causal=True)
    assert noted(tokens.clone(), "encoder") is None
    tokens[0, 0] = 2
    assert noted(tokens, "encoder") is None


def test_notes_for_two_readers_and_of_tensors_whose_changes_are_not_counted():
    tokens = torch.ones(2, 3)
    for reader, layout in (("encoder", Layout()), ("decoder", Layout(causal=True))):
        note(tokens, layout, reader)
    assert noted(tokens, "encoder") == Layout() and noted(tokens, "decoder").causal
    with torch.inference_mode():
        tokens = torch.ones(2, 3)
        note(tokens, Layout(), "encoder")
        assert noted(tokens, "encoder") is None
