"""Batches whose shapes do not depend on their sentences, so that a CUDA graph serves many of them.

The tokens of a batch stand in one row, of a size that many batches share. The rest of the row is
padding, which forms further sentences after the real ones: attention computes every position of the
row, and no sentence sees another. Nothing here waits for the device.

Shapes: T time, B batch, N size of the row, K number of sentences, with those of padding.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

LONGEST = 128
"""Lengths are rounded up to multiples of this: a block of torch's attention kernel."""

STEPS = {"tokens": 4, "sentences": 2}
"""Sizes between one power of two and the next. More of them take less padding and more recordings:
an epoch of Multi30k, at most 4,096 tokens in a batch, has 22 sizes, with 1.14 rows per token."""


class Sizes(NamedTuple):
    """The sizes that all batches of one graph share, of source or target."""

    tokens: int  # N
    sentences: int  # K
    longest: int  # tokens in a sentence, at most

    @classmethod
    def of(cls, *shapes: torch.Size) -> tuple[Sizes, ...]:
        """Sizes for batches of these shapes (B x T), with the same number of sentences."""
        tokens = [rounded(shape.numel(), STEPS["tokens"]) for shape in shapes]
        longest = [-(-shape[1] // LONGEST) * LONGEST for shape in shapes]
        fillers = max(-(-n // length) + 1 for n, length in zip(tokens, longest))
        sentences = rounded(shapes[0][0] + fillers, STEPS["sentences"])
        return tuple(cls(n, sentences, length) for n, length in zip(tokens, longest))


class Packed(NamedTuple):
    """Sentences in one row."""

    tokens: Tensor  # N
    positions: Tensor  # N, of a token in its sentence, from 0
    starts: Tensor  # K + 1, int32: where sentences start; the last is N


def pack(tokens: Tensor, padding: int, sizes: Sizes) -> tuple[Packed, Tensor]:
    """Pack ``tokens`` (B x T); also returns where in the row each of them went (B·T)."""
    real = tokens.ne(padding)
    slots = (real.flatten().cumsum(0) - 1).masked_fill(~real.flatten(), sizes.tokens)
    positions = (real.cumsum(1) - 1).clamp_(min=0)
    lengths = real.sum(1)
    return Packed(
        placed(tokens, slots, sizes, padding),
        placed(positions, slots, sizes, 0),
        _starts(lengths, sizes),
    ), slots


def placed(values: Tensor, slots: Tensor, sizes: Sizes, filler: int) -> Tensor:
    """``values`` (B x T) in a row: N."""
    row = values.new_full((sizes.tokens + 1,), filler)  # the last one takes the padding
    row.scatter_(0, slots, values.flatten())
    return row[:-1]


def _starts(lengths: Tensor, sizes: Sizes) -> Tensor:
    ends = lengths.cumsum(0)
    fillers = torch.arange(1, sizes.sentences - len(lengths) + 1, device=lengths.device)
    filled = (ends[-1] + fillers * sizes.longest).clamp_(max=sizes.tokens)
    return torch.cat([ends.new_zeros(1), ends, filled]).int()


def rounded(count: int, steps: int) -> int:
    """Round ``count`` up to one of ``steps`` sizes per power of two, each a multiple of 8."""
    step = max((1 << (count - 1).bit_length()) // (2 * steps), 8)
    return -(-count // step) * step
