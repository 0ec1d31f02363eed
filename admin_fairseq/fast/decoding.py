"""What attention keeps while a translation grows: one position a step, hypotheses in beam search.

Shapes: R rows of the decoder's batch, B sentences, K = R/B hypotheses of each, side by side;
S source time, t positions decoded so far, C channel, H heads, D = C/H.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, NamedTuple, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from admin_fairseq.fast.layout import visible

Linear = Callable[[Tensor], Tensor]

ROOM = 16  # positions added whenever all are used up


class AttentionInputs(NamedTuple):
    """What the new position's attention needs; in self-attention B is R and K is 1."""

    query: Tensor  # B x H x K x D
    keys: Tensor  # B x H x (t or S) x D
    values: Tensor  # like keys
    mask: Optional[Tensor]  # B x 1 x 1 x (t or S), True on what is seen; None: everything


class Moves(NamedTuple):
    """How t positions of R rows follow an order."""

    origins: Tensor  # t x R: in which row each was decoded, once the order is followed
    sources: Tensor  # places in t x capacity, flat: what is there goes to ...
    targets: Tensor  # ... these


class Selection:
    """Which rows go on: row i of the next step was row ``order[i]`` of the last one.

    Made once for a step and asked by every layer, since an answer makes a GPU wait.
    """

    def __init__(self, order: Tensor) -> None:
        self.order = order
        self._answers: dict[tuple[int, int], tuple[Optional[Tensor], int]] = {}
        self._moves: dict[tuple[int, ...], tuple[Optional[Tensor], Moves]] = {}

    def of(self, sentences: int, hypotheses: int = 1) -> tuple[Optional[Tensor], int]:
        """What becomes of ``sentences`` with so many ``hypotheses`` side by side.

        Returns the indices of those that go on (None: all stay as they are) and how many
        hypotheses each has then: 1 where those of different sentences came to lie side by side.
        """
        case = sentences, hypotheses
        if case not in self._answers:
            self._answers[case] = self._answer(*case)
        return self._answers[case]

    def _answer(self, sentences: int, hypotheses: int) -> tuple[Optional[Tensor], int]:
        chosen = self.order.div(hypotheses, rounding_mode="floor")
        first = chosen[::hypotheses]
        if hypotheses > 1 and not torch.equal(chosen, first.repeat_interleave(hypotheses)):
            return chosen, 1
        stays = torch.equal(first, torch.arange(sentences).to(first))
        return (None if stays else first), hypotheses

    def moves(self, origins: Optional[Tensor], length: int, rows: int, capacity: int) -> Moves:
        """What has to move among ``length`` positions of ``rows`` rows, of ``capacity`` with room.

        origins: t x R, t ≤ length, in which row each position was decoded; None, like positions
        that it does not speak of: in its own.
        """
        case = id(origins), length, rows, capacity
        if case not in self._moves:  # kept with its origins, or another's might get their id
            self._moves[case] = origins, self._find_moves(origins, length, rows, capacity)
        return self._moves[case][1]

    def _find_moves(
        self, origins: Optional[Tensor], length: int, rows: int, capacity: int
    ) -> Moves:
        before = torch.arange(rows, device=self.order.device).repeat(length, 1)
        if origins is not None:
            before[: len(origins)] = origins
        after = before.index_select(1, self.order)
        same_place = F.pad(before, (0, len(self.order) - rows), value=-1)  # or narrower
        position, row = (after != same_place).nonzero(as_tuple=True)
        start = position * capacity
        return Moves(after, start + self.order[row], start + row)


class Past:
    """Keys and values of the positions decoded so far, in one tensor with room for more.

    The hypotheses of a sentence have most of their past in common: when they are reordered, only
    what differs moves, within the memory there is. The rows of one position follow one another, so
    that each piece is whole; rows and heads lie without a gap, so that a product over all of them
    needs no copy.
    """

    kept: Tensor  # 2 x (t and room) x (R and room) x H x D, from the first position on

    def __init__(self, project: Linear, head_dim: int) -> None:
        """``project``: R x C → queries, keys and values, R x 3C."""
        self.project = project
        self.head_dim = head_dim
        self.length = 0  # positions, and ...
        self.rows = 0  # ... rows in use of
        self.origins: Optional[Tensor] = None  # as ``Selection.moves`` takes them
        self.padding: Optional[Tensor] = None  # R x t, True on padding; None: there is none

    def look_up(self, x: Tensor, padding: Optional[Tensor]) -> AttentionInputs:
        """Keep what the new position has to say, x: R x C; padding: R x 1, True on padding."""
        made = self.project(x).unflatten(-1, (3, -1, self.head_dim)).transpose(0, 1)
        query, new = made[0], made[1:]
        self._note_padding(padding, x)
        if self.length % ROOM == 0:
            self._grow(new)
        self.rows = len(x)
        self.kept[:, self.length, : self.rows] = new
        self.length += 1
        keys, values = self.kept[:, : self.length, : self.rows].permute(0, 2, 3, 1, 4)
        mask = None if self.padding is None else visible(self.padding)
        return AttentionInputs(query.unsqueeze(2), keys, values, mask)

    def reorder(self, selection: Selection) -> None:
        order, capacity = selection.order, self.kept.shape[2]
        if self.padding is not None:
            self.padding = self.padding[order]
        moves = selection.moves(self.origins, self.length, self.rows, capacity)
        self.origins, self.rows = moves.origins, len(order)
        if len(order) > capacity or self.kept.requires_grad:  # autograd needs what was there
            self.kept = self.kept.index_select(2, order)
        elif len(moves.targets):
            for kept in self.kept.flatten(1, 2):
                kept.index_copy_(0, moves.targets, kept.index_select(0, moves.sources))

    def _grow(self, new: Tensor) -> None:
        grown = new.new_empty(2, self.length + ROOM, *new.shape[1:])
        if self.length:
            grown[:, : self.length] = self.kept[:, :, : new.shape[1]]
        self.kept = grown

    def _note_padding(self, new: Optional[Tensor], x: Tensor) -> None:
        if new is not None or self.padding is not None:
            parts = (self.padding, self.length), (new, 1)
            nothing = partial(x.new_zeros, dtype=torch.bool)
            self.padding = torch.cat(
                [nothing(len(x), n) if part is None else part for part, n in parts], dim=1
            )


class Memory:
    """Keys and values of the encoder's output: once for each sentence, not for each hypothesis."""

    def __init__(
        self, project: Linear, keys: Tensor, values: Tensor, mask: Optional[Tensor], hypotheses: int
    ) -> None:
        """``project``: R x C → queries; keys, values: B x H x S x D; mask: B x 1 x 1 x S."""
        self.project = project
        self.keys, self.values = keys.contiguous(), values.contiguous()
        self.mask = mask
        self.hypotheses = hypotheses

    def look_up(self, x: Tensor, padding: Any = None) -> AttentionInputs:
        """The queries of the new position, x: R x C."""
        heads, dim = self.keys.shape[1], self.keys.shape[3]
        query = self.project(x).view(-1, self.hypotheses, heads, dim).transpose(1, 2)
        return AttentionInputs(query, self.keys, self.values, self.mask)

    def reorder(self, selection: Selection) -> None:
        order, self.hypotheses = selection.of(len(self.keys), self.hypotheses)
        if order is not None:
            self.keys, self.values = self.keys[order], self.values[order]
            self.mask = None if self.mask is None else self.mask[order]
