"""Where a padded batch has tokens, which of them attend to which, packing without padding.

Shapes: T time, B batch, C channel, N tokens that are not padding.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

import torch
from torch import Tensor

from admin_fairseq.repairs.private import version_of

PACKS_FROM = 0.05
"""Fraction of padding from which packing saves more time than its copies cost (docs/speed.md)."""


NOTE = "layouts_of_tokens"
"""The attribute of a tensor of tokens that holds layouts, by what reads the tokens."""


TARGET = "target"
"""The reader of a batch's target: a criterion. The others are the stacks."""


class Row(NamedTuple):
    """Sentences one after another, of which attention reads each by itself."""

    starts: Tensor  # K + 1, int32: where the K sentences start; the last is the row's end
    longest: int  # no sentence has more tokens
    causal: bool = False  # a position sees none after it

    @classmethod
    def of(cls, padding: Tensor, causal: bool) -> Row:
        """Return the row of a batch's sentences, without padding (B x T, True on padding)."""
        ends = (~padding).sum(1).cumsum(0)
        return cls(torch.cat([ends.new_zeros(1), ends]).int(), padding.shape[1], causal)


class Layout(NamedTuple):
    """The padding and mask of a batch in encoder or decoder, and the indices that pack its tokens.

    A packed tensor is N x 1 x C: the tokens of all sentences as one sequence, without padding.
    Position-wise modules treat it like T x B x C; attention unpacks it.
    """

    padding: Optional[Tensor] = None  # B x T, True on padding; None: no padding
    mask: Optional[Tensor] = None  # B x 1 x (1 or T) x T, True where visible; None: everywhere
    kept: Optional[Tensor] = None  # N indices into B·T, if packed
    causal: bool = False  # a position sees none after it; False if ``mask`` says so
    hypotheses: int = 1  # neighbouring rows of the batch that share one sentence
    row: Optional[Row] = None  # if attention, too, can work on the packed tensor

    @classmethod
    def of(cls, padding: Optional[Tensor], causal: bool = False, in_row: bool = False) -> Layout:
        """Return the layout of a batch: where its tokens are, and what attention may see.

        ``padding`` is B x T, True on padding; None: there is none. No mask is needed without
        padding, nor in causal attention with padding on the right alone, as that comes after all
        tokens. If attention can work ``in_row``, packing costs nothing, so every batch is packed.
        Reads values of ``padding``: on a GPU, the host waits.
        """
        if padding is None:
            return cls(causal=causal)
        followed = padding[:, :-1] & ~padding[:, 1:]  # padding followed by a token
        padded, left = torch.stack([padding.sum(), followed.sum()]).tolist()
        if not padded and not in_row:
            return cls(causal=causal)
        kept = row = None
        if in_row or padded >= PACKS_FROM * padding.numel():
            kept = (~padding).flatten().nonzero().squeeze(1)
        if in_row:
            row = Row.of(padding, causal)
        hidden = left if causal else padded  # causal attention sees no padding on the right
        if not hidden:
            return cls(padding, None, kept, causal, row=row)
        return cls(padding, visible(padding, causal), kept, row=row)

    def pack(self, x: Tensor) -> Tensor:
        """Remove padding: T x B x C → N x 1 x C; or return x, contiguous, if not packing."""
        if self.kept is None:
            return x.contiguous()
        return x.transpose(0, 1).flatten(0, 1)[self.kept].unsqueeze(1)

    def unpack(self, x: Tensor) -> Tensor:
        """Undo ``pack``: N x 1 x C → T x B x C, with zeros on padding; x itself if not packed."""
        if self.padding is None or self.kept is None:
            return x
        padded = x.new_zeros(self.padding.numel(), x.shape[-1])
        padded = padded.index_copy(0, self.kept, x.squeeze(1))
        return padded.unflatten(0, self.padding.shape).transpose(0, 1)

    def to(self, device: torch.device) -> Layout:
        """Return the same layout with its tensors on ``device``, without waiting for it."""
        row = self.row and self.row._replace(starts=_moved(self.row.starts, device))
        padding, mask, kept = (t if t is None else _moved(t, device) for t in self[:3])
        return self._replace(padding=padding, mask=mask, kept=kept, row=row)


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    if tensor.device == device:
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def note(tokens: Tensor, layout: Layout, reader: str) -> None:
    """Remember the layout of ``tokens`` (B x T) for ``reader``, until an operator changes them.

    Of inference tensors torch does not count the changes, so nothing is remembered.
    """
    if not tokens.is_inference():
        layouts = {**getattr(tokens, NOTE, {}), reader: (version_of(tokens), layout)}
        setattr(tokens, NOTE, layouts)


def noted(tokens: Tensor, reader: str) -> Optional[Layout]:
    """Return the layout that ``note`` remembered; None if there is none, or tokens changed."""
    version, layout = getattr(tokens, NOTE, {}).get(reader, (None, None))
    return layout if layout is not None and version == version_of(tokens) else None


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
