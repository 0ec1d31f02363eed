"""Where a padded batch has tokens, which of them attend to which, packing without padding.

Shapes: T time, B batch, C channel, N tokens that are not padding.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

import torch
from torch import Tensor

PACKS_FROM = 0.05
"""Fraction of padding from which packing saves more time than its copies cost (docs/speed.md)."""


class Row(NamedTuple):
    """Sentences one after another, of which attention reads each by itself."""

    starts: Tensor  # K + 1, int32: where the K sentences start; the last is the row's end
    longest: int  # no sentence has more tokens


class Layout(NamedTuple):
    """The padding and mask of a batch in encoder or decoder, and the indices that pack its tokens.

    A packed tensor is N x 1 x C: the tokens of all sentences as one sequence, without padding.
    Position-wise modules treat it like T x B x C; attention unpacks it.
    """

    padding: Optional[Tensor] = None  # B x T, True on padding; None: no padding
    mask: Optional[Tensor] = None  # B x 1 x (1 or T) x T, True where visible; None: everywhere
    rows: Optional[Tensor] = None  # N indices into T·B, if packed
    causal: bool = False  # a position sees none after it; False if ``mask`` says so
    hypotheses: int = 1  # neighbouring rows of the batch that share one sentence
    row: Optional[Row] = None  # if attention, too, is to work on the packed tensor

    @classmethod
    def of(cls, padding: Optional[Tensor], causal: bool = False) -> Layout:
        """Return the layout of a batch: where its tokens are, and what attention may see.

        ``padding`` is B x T, True on padding; None: there is none. No mask is needed without
        padding, nor in causal attention with padding on the right alone, as that comes after all
        tokens.
        """
        if padding is None:
            return cls(causal=causal)
        followed = padding[:, :-1] & ~padding[:, 1:]  # padding followed by a token
        padded, left = torch.stack([padding.sum(), followed.sum()]).tolist()
        if not padded:
            return cls(causal=causal)
        rows = None
        if padded >= PACKS_FROM * padding.numel():
            rows = (~padding).t().flatten().nonzero().squeeze(1)
        if causal and not left:
            return cls(padding, None, rows, causal)
        return cls(padding, visible(padding, causal), rows)

    def pack(self, x: Tensor) -> Tensor:
        """Remove padding: T x B x C → N x 1 x C; or return x, contiguous, if not packing."""
        return x.contiguous() if self.rows is None else x.flatten(0, 1)[self.rows].unsqueeze(1)

    def unpack(self, x: Tensor) -> Tensor:
        """Undo ``pack``: N x 1 x C → T x B x C, with zeros on padding; x itself if not packed."""
        if self.padding is None or self.rows is None:
            return x
        batch, time = self.padding.shape
        padded = x.new_zeros(time * batch, x.shape[-1])
        return padded.index_copy(0, self.rows, x.squeeze(1)).view(time, batch, -1)


def visible(padding: Tensor, causal: bool = False) -> Tensor:
    """Return which positions attention may look at, B x 1 x (1 or T) x T, given padding (B x T).

    Both are boolean: True on padding, and True where attention may look. Where a query would see
    only padding, padding is visible, since a softmax needs a term.
    """
    seen = (~padding | padding.all(1, keepdim=True))[:, None, None]
    if not causal:
        return seen
    self_seen = torch.eye(padding.shape[1], dtype=torch.bool, device=padding.device)
    return seen & torch.ones_like(self_seen).tril() | self_seen
