"""The state of attention during incremental decoding, one position a step, with beam search.

Shapes: R rows of the decoder's batch, B sentences with K = R/B neighbouring hypotheses each; S
source time, t positions decoded so far, C channel, H heads, D = C/H.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, NamedTuple, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from admin_fairseq.fast.layout import visible

Linear = Callable[[Tensor], Tensor]

ROOM = 16  # positions for which memory is added whenever all are used


class AttentionInputs(NamedTuple):
    """The query, keys, values and mask of attention from the new position.

    In self-attention, B is R and K is 1.
    """

    query: Tensor  # B x H x K x D
    keys: Tensor  # B x H x (t or S) x D
    values: Tensor  # like keys
    mask: Optional[Tensor]  # B x 1 x 1 x (t or S), True where visible; None: everywhere


class Moves(NamedTuple):
    """The copies, within a ``Past``, that reorder R rows of t positions in beam search."""

    origins: Tensor  # t x R: the row in which each entry was decoded, after reordering
    sources: Tensor  # flat indices into t x capacity to copy from ...
    targets: Tensor  # ... and to


class Selection:
    """The hypotheses that survive a step: row i of the next step was row ``order[i]`` before.

    All layers share one Selection and reuse its results, because computing one makes the host wait
    for the GPU.
    """

    def __init__(self, order: Tensor) -> None:
        self.order = order
        self._answers: dict[tuple[int, int], tuple[Optional[Tensor], int]] = {}
        self._moves: dict[tuple[int, ...], tuple[Optional[Tensor], Moves]] = {}

    def of(self, sentences: int, hypotheses: int = 1) -> tuple[Optional[Tensor], int]:
        """Find which of a number of ``sentences``, with ``hypotheses`` rows each, survive the step.

        Returns the indices of the surviving sentences (None: all, in the same order) and the number
        of neighbouring rows of each: 1 if rows of different sentences have become neighbours.
        """
        case = sentences, hypotheses
        if case not in self._answers:
            self._answers[case] = self._answer(*case)
        return self._answers[case]

    def _answer(self, sentences: int, hypotheses: int) -> tuple[Optional[Tensor], int]:
        """Compute what ``of`` returns, without its cache."""
        chosen = self.order.div(hypotheses, rounding_mode="floor")
        first = chosen[::hypotheses]
        if hypotheses > 1 and not torch.equal(chosen, first.repeat_interleave(hypotheses)):
            return chosen, 1
        stays = torch.equal(first, torch.arange(sentences).to(first))
        return (None if stays else first), hypotheses

    def moves(self, origins: Optional[Tensor], length: int, rows: int, capacity: int) -> Moves:
        """Find the copies that reorder ``length`` positions of ``rows`` rows.

        ``capacity`` is the number of rows for which memory is allocated.

        origins: t x R with t ≤ length, the row in which each entry was decoded. Entries that it
        does not cover, or all entries if it is None, were decoded in their own row.
        """
        case = id(origins), length, rows, capacity
        if case not in self._moves:  # keeps origins alive, so that their id stays unique
            self._moves[case] = origins, self._find_moves(origins, length, rows, capacity)
        return self._moves[case][1]

    def _find_moves(
        self, origins: Optional[Tensor], length: int, rows: int, capacity: int
    ) -> Moves:
        """Compute what ``moves`` returns, without its cache."""
        before = torch.arange(rows, device=self.order.device).repeat(length, 1)
        if origins is not None:
            before[: len(origins)] = origins
        after = before.index_select(1, self.order)
        same_place = F.pad(before, (0, len(self.order) - rows), value=-1)  # or narrower
        position, row = (after != same_place).nonzero(as_tuple=True)
        start = position * capacity
        return Moves(after, start + self.order[row], start + row)


class Past:
    """Self-attention's keys and values of the positions decoded so far, in one growing tensor.

    The hypotheses of a sentence share most of their past: reordering copies only the entries that
    differ, in place. The rows of one position are adjacent, so that each entry is contiguous, and
    there is no gap between rows and heads, so that a product over all of them needs no copy.
    """

    kept: Tensor  # 2 x (t + room) x (R + room) x H x D; set by the first look_up

    def __init__(self, project: Linear, head_dim: int) -> None:
        """Start without positions; ``project`` maps R x C to queries, keys and values, R x 3C."""
        self.project = project
        self.head_dim = head_dim
        self.length = 0  # t: the positions decoded so far
        self.rows = 0  # R: the rows in use; ``kept`` may have more of both
        self.origins: Optional[Tensor] = None  # an argument of ``Selection.moves``
        self.padding: Optional[Tensor] = None  # R x t, True on padding; None: there is none

    def look_up(self, x: Tensor, padding: Optional[Tensor]) -> AttentionInputs:
        """Add the new position x (R x C); return the query, keys, values and mask of its attention.

        padding: R x 1, True where the new token is padding; None: nowhere.
        """
        made = self.project(x).unflatten(-1, (3, -1, self.head_dim)).transpose(0, 1)
        query, new = made[0], made[1:]
        self._note_padding(padding, x)
        if self.length % ROOM == 0 or self.kept.requires_grad:  # autograd needs the old values
            self._grow(new)
        self.rows = len(x)
        self.kept[:, self.length, : self.rows] = new
        self.length += 1
        keys, values = self.kept[:, : self.length, : self.rows].permute(0, 2, 3, 1, 4)
        mask = None if self.padding is None else visible(self.padding)
        return AttentionInputs(query.unsqueeze(2), keys, values, mask)

    def reorder(self, selection: Selection) -> None:
        """Keep the hypotheses (rows) that ``selection`` selects, in its order."""
        order, capacity = selection.order, self.kept.shape[2]
        if self.padding is not None:
            self.padding = self.padding[order]
        moves = selection.moves(self.origins, self.length, self.rows, capacity)
        self.origins, self.rows = moves.origins, len(order)
        if len(order) > capacity or self.kept.requires_grad:  # as in look_up
            self.kept = self.kept.index_select(2, order)
        elif len(moves.targets):
            for kept in self.kept.flatten(1, 2):
                kept.index_copy_(0, moves.targets, kept.index_select(0, moves.sources))

    def _grow(self, new: Tensor) -> None:
        """Add memory for ROOM positions to the tensor of keys and values, for rows like ``new``."""
        grown = new.new_empty(2, self.length + ROOM, *new.shape[1:])
        if self.length:
            grown[:, : self.length] = self.kept[:, : self.length, : new.shape[1]]
        self.kept = grown

    def _note_padding(self, new: Optional[Tensor], x: Tensor) -> None:
        """Append the new position's padding (R x 1, or None) to that of earlier ones; x: R x C."""
        if new is not None or self.padding is not None:
            parts = (self.padding, self.length), (new, 1)
            nothing = partial(x.new_zeros, dtype=torch.bool)
            self.padding = torch.cat(
                [nothing(len(x), n) if part is None else part for part, n in parts], dim=1
            )


class Memory:
    """Keys and values of the encoder's output, stored per sentence, not per hypothesis."""

    def __init__(
        self, project: Linear, keys: Tensor, values: Tensor, mask: Optional[Tensor], hypotheses: int
    ) -> None:
        """Store keys and values (B x H x S x D) and their mask (B x 1 x 1 x S).

        ``project`` maps R x C to queries; ``hypotheses`` is K, the neighbouring rows of each
        sentence.
        """
        self.project = project
        self.keys, self.values = keys.contiguous(), values.contiguous()
        self.mask = mask
        self.hypotheses = hypotheses

    def look_up(self, x: Tensor, padding: Any = None) -> AttentionInputs:
        """Return query, keys, values and mask for attention from the new position x (R x C)."""
        heads, dim = self.keys.shape[1], self.keys.shape[3]
        query = self.project(x).view(-1, self.hypotheses, heads, dim).transpose(1, 2)
        return AttentionInputs(query, self.keys, self.values, self.mask)

    def reorder(self, selection: Selection) -> None:
        """Drop the sentences of which ``selection`` keeps no row, and reorder the others."""
        order, self.hypotheses = selection.of(len(self.keys), self.hypotheses)
        if order is not None:
            self.keys, self.values = self.keys[order], self.values[order]
            self.mask = None if self.mask is None else self.mask[order]
