"""Where the tokens of a padded batch lie, which of them may see which, and leaving padding out.

Shapes: T time, B batch, C channel, N tokens that are no padding.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

import torch
from torch import Tensor

PACKS_FROM = 0.05
"""Share of padding from which packing is worth its copies (docs/speed.md)."""


class Layout(NamedTuple):
    """The positions of one stack's batch.

    A packed tensor is N x 1 x C: the tokens of all sentences as one, padding left out. Whatever
    looks at one position at a time works on it as on T x B x C; attention unpacks.
    """

    padding: Optional[Tensor] = None  # B x T, True on padding; None where nothing is padded
    mask: Optional[Tensor] = None  # B x 1 x (1 or T) x T, True on what is seen; None: everything
    rows: Optional[Tensor] = None  # N indices into T·B, if packed
    causal: bool = False  # whether a position sees none after it; left to ``mask`` if there is one
    hypotheses: int = 1  # rows of the batch, side by side, that share one sentence of this stack

    @classmethod
    def of(cls, padding: Optional[Tensor], causal: bool = False) -> Layout:
        """Of a batch with ``padding`` (B x T, True on padding), as fairseq's stacks see it.

        Nothing is masked where nothing is padded. Padding on the right needs no mask where
        attention is causal: it comes after everything that counts.
        """
        if padding is None:
            return cls(causal=causal)
        followed = padding[:, :-1] & ~padding[:, 1:]  # padding that has a token behind it
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
        """T x B x C → N x 1 x C; as it is, if the layout does not pack. Without gaps in memory."""
        return x.contiguous() if self.rows is None else x.flatten(0, 1)[self.rows].unsqueeze(1)

    def unpack(self, x: Tensor) -> Tensor:
        """The inverse of ``pack``, with zeros on padding."""
        if self.padding is None or self.rows is None:
            return x
        batch, time = self.padding.shape
        padded = x.new_zeros(time * batch, x.shape[-1])
        return padded.index_copy(0, self.rows, x.squeeze(1)).view(time, batch, -1)


def visible(padding: Tensor, causal: bool = False) -> Tensor:
    """Which positions attention sees: B x 1 x (1 or T) x T; padding: B x T, True on padding.

    Where only padding could be seen, it is: a softmax needs a term.
    """
    seen = (~padding | padding.all(1, keepdim=True))[:, None, None]
    if not causal:
        return seen
    self_seen = torch.eye(padding.shape[1], dtype=torch.bool, device=padding.device)
    return seen & torch.ones_like(self_seen).tril() | self_seen
