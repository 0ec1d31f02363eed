"""Where a padded batch has tokens, which of them attend to which, and packing without padding.

Shapes: T time, B batch, C channel, N tokens that are not padding.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

import torch
from torch import Tensor

PACKS_FROM = 0.05
"""Share of padding above which packing is worth its copies (docs/speed.md)."""


class Row(NamedTuple):
    """Sentences one after another, of which attention reads each by itself."""

    starts: Tensor  # K + 1, int32: where the K sentences start; the last is the row's end
    longest: int  # no sentence has more tokens


class Layout(NamedTuple):
    """The positions of one stack's batch.

    A packed tensor is N x 1 x C: the tokens of all sentences as one sequence, without padding.
    Position-wise modules work on it as on T x B x C; attention unpacks.
    """

    padding: Optional[Tensor] = None  # B x T, True on padding; None: no padding
    mask: Optional[Tensor] = None  # B x 1 x (1 or T) x T, True where visible; None: everywhere
    rows: Optional[Tensor] = None  # N indices into T·B, if packed
    causal: bool = False  # a position sees none after it; False if ``mask`` says so
    hypotheses: int = 1  # neighbouring rows of the batch that share one sentence
    row: Optional[Row] = None  # if attention, too, is to work on the packed tensor

    @classmethod
    def of(cls, padding: Optional[Tensor], causal: bool = False) -> Layout:
        """The layout of a batch with ``padding`` (B x T, True on padding).

        Without padding there is no mask. Padding on the right needs none in causal attention, as it
        comes after all tokens.
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
        """T x B x C → N x 1 x C, or unchanged if the layout does not pack; contiguous."""
        return x.contiguous() if self.rows is None else x.flatten(0, 1)[self.rows].unsqueeze(1)

    def unpack(self, x: Tensor) -> Tensor:
        """The inverse of ``pack``, with zeros on padding."""
        if self.padding is None or self.rows is None:
            return x
        batch, time = self.padding.shape
        padded = x.new_zeros(time * batch, x.shape[-1])
        return padded.index_copy(0, self.rows, x.squeeze(1)).view(time, batch, -1)


def visible(padding: Tensor, causal: bool = False) -> Tensor:
    """The positions that attention sees: B x 1 x (1 or T) x T; padding: B x T, True on padding.

    Padding is visible where nothing else is, since a softmax needs a term.
    """
    seen = (~padding | padding.all(1, keepdim=True))[:, None, None]
    if not causal:
        return seen
    self_seen = torch.eye(padding.shape[1], dtype=torch.bool, device=padding.device)
    return seen & torch.ones_like(self_seen).tril() | self_seen
