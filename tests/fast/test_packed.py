"""Sentences in one row: everything is there once, and sizes depend on shapes alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from admin_fairseq.fast.attention import Attention
from admin_fairseq.fast.layout import Layout, Row
from admin_fairseq.fast.packed import LONGEST, Sizes, pack, placed, rounded

PAD = 1
lengths = st.lists(st.integers(1, 9), min_size=1, max_size=9)


def padded(lengths, left=False, seed=0):
    """Tokens, B x T, of sentences with these lengths."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.full((len(lengths), max(lengths)), PAD)
    for row, length in zip(tokens, lengths):
        place = slice(len(row) - length, None) if left else slice(length)
        row[place] = torch.randint(2, 30, (length,), generator=generator)
    return tokens


@given(lengths, st.booleans())
def test_a_row_has_each_token_once_in_order(lengths, left):
    tokens = padded(lengths, left)
    (sizes,) = Sizes.of(tokens.shape)
    packed, slots = pack(tokens, PAD, sizes)
    total = sum(lengths)
    assert packed.tokens.shape == packed.positions.shape == (sizes.tokens,)
    assert torch.equal(packed.tokens[:total], tokens[tokens.ne(PAD)])
    assert packed.tokens[total:].eq(PAD).all()
    assert packed.positions[:total].tolist() == [i for n in lengths for i in range(n)]
    assert packed.positions.max() < sizes.longest
    others = placed(tokens * 10, slots, sizes, PAD)
    assert torch.equal(others[:total], 10 * packed.tokens[:total]) and others[total:].eq(PAD).all()


@given(lengths)
def test_sentences_fill_the_row(lengths):
    tokens = padded(lengths)
    (sizes,) = Sizes.of(tokens.shape)
    starts = pack(tokens, PAD, sizes)[0].starts
    assert starts.dtype == torch.int32 and starts.shape == (sizes.sentences + 1,)
    found = starts.diff()
    assert found[: len(lengths)].tolist() == lengths
    assert starts[0] == 0 and starts[-1] == sizes.tokens
    assert found.min() >= 0 and found.max() <= sizes.longest


@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 400))
def test_both_sides_have_room_for_every_batch_of_their_shapes(batch, source, target):
    sides = Sizes.of(torch.Size([batch, source]), torch.Size([batch, target]))
    assert sides[0].sentences == sides[1].sentences
    for side, time in zip(sides, (source, target)):
        assert batch * time <= side.tokens and time <= side.longest
        fewest = batch  # one token each: all else is padding
        fillers = -(-(side.tokens - fewest) // side.longest)
        assert batch + fillers <= side.sentences


@given(st.integers(1, 10**6), st.sampled_from([1, 2, 4, 8]))
def test_counts_are_rounded_up_by_little(count, steps):
    found = rounded(count, steps)
    assert count <= found <= max(count * (steps + 1) // steps + 1, count + 7)
    assert found % 8 == 0 and rounded(found, steps) == found


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_there_are_few_sizes(steps):
    assert len({rounded(count, steps) for count in range(2049, 4097)}) == steps


def test_nothing_waits_for_the_device():
    """A tensor without values cannot be read."""
    tokens = torch.empty(4, 7, dtype=torch.long, device="meta")
    (sizes,) = Sizes.of(tokens.shape)
    packed, slots = pack(tokens, PAD, sizes)
    assert packed.starts.is_meta and placed(tokens, slots, sizes, PAD).is_meta


@settings(deadline=None)
@given(lengths, st.data(), st.booleans())
def test_attention_in_a_row_is_attention_in_a_batch(lengths, data, causal):
    """Self-attention, and attention to another side, which has other lengths."""
    theirs = lengths if causal else [data.draw(st.integers(1, 9)) for _ in lengths]
    torch.manual_seed(1)
    attention = Attention(8, 2, self_attention=causal, encoder_decoder_attention=not causal)
    for name, parameter in attention.named_parameters():
        nn.init.normal_(parameter) if "weight" in name else nn.init.normal_(parameter, std=0.1)
    attention = attention.double()
    tokens = [padded(n) for n in (lengths, theirs)]
    x, memory = (torch.randn(t.shape[1], t.shape[0], 8).double() for t in tokens)
    memory = x if causal else memory
    layouts = [Layout.of(t.eq(PAD), causal=causal) for t in tokens]
    wide = [layout._replace(kept=None) for layout in layouts]
    expected, _ = attention(x, memory, memory, layouts=tuple(wide), need_weights=False)
    sizes = Sizes.of(*(t.shape for t in tokens))
    rows, layouts = [], []
    for t, values, size in zip(tokens, (x, memory), sizes):
        packed, slots = pack(t, PAD, size)
        row = torch.zeros(size.tokens + 1, 8).double()
        rows.append(row.index_copy(0, slots, values.transpose(0, 1).flatten(0, 1))[:-1, None])
        layouts.append(Layout(row=Row(packed.starts, size.longest, causal)))
    q, k = rows[0], rows[0] if causal else rows[1]
    found, _ = attention(q, k, k, layouts=tuple(layouts), need_weights=False)
    real = expected.transpose(0, 1)[tokens[0].ne(PAD)]
    assert torch.allclose(found[: sum(lengths), 0], real, atol=1e-12)
    assert found.isfinite().all()


def test_lengths_are_rounded_up_to_blocks_of_attention():
    assert [s.longest for s in Sizes.of(torch.Size([2, 5]), torch.Size([2, LONGEST + 1]))] == [
        LONGEST,
        2 * LONGEST,
    ]
