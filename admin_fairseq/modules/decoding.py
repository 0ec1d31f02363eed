"""What attention keeps while a translation grows: one position a step, hypotheses in beam search.

Shapes: R rows of the decoder's batch, B sentences, K = R/B hypotheses of each, side by side;
S source time, t positions decoded so far, C channel, H heads, D = C/H.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, NamedTuple, Optional

import torch
from torch import Tensor

from admin_fairseq.modules.layout import visible

Linear = Callable[[Tensor], Tensor]

ROOM = 16  # positions added whenever all are used up


class Found(NamedTuple):
    """What the new position's attention needs; in self-attention B is R and K is 1."""

    query: Tensor  # B x H x K x D
    keys: Tensor  # B x H x (t or S) x D
    values: Tensor  # like keys
    mask: Optional[Tensor]  # B x 1 x 1 x (t or S), True on what is seen; None: everything


class Selection:
    """Which rows go on: row i of the next step was row ``order[i]`` of the last one.

    Made once for a step and asked by every layer, since an answer makes a GPU wait.
    """

    def __init__(self, order: Tensor) -> None:
        self.order = order
        self._answers: dict[tuple[int, int], tuple[Optional[Tensor], int]] = {}

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


class Past:
    """Keys and values of the positions decoded so far, in one tensor with room for more.

    Rows and heads of the keys (and of the values) follow one another without a gap, so that a
    product over all of them needs no copy.
    """

    def __init__(self, project: Linear, head_dim: int) -> None:
        """``project``: R x C → queries, keys and values, R x 3C."""
        self.project = project
        self.head_dim = head_dim
        self.length = 0
        self.kept: Optional[Tensor] = None  # 2 x R x H x capacity x D
        self.spare: Optional[Tensor] = None  # like ``kept``: where reordered rows go
        self.padding: Optional[Tensor] = None  # R x t, True on padding; None: there is none

    def look_up(self, x: Tensor, padding: Optional[Tensor]) -> Found:
        """Keep what the new position has to say, x: R x C; padding: R x 1, True on padding."""
        made = self.project(x).unflatten(-1, (3, -1, self.head_dim)).transpose(0, 1)
        query, new = made[0], made[1:]
        self._note_padding(padding, x)
        if self.kept is None or self.length == self.kept.shape[3]:
            self._grow(new)
        self.kept[..., self.length, :] = new
        self.length += 1
        keys, values = self.kept[..., : self.length, :]
        mask = None if self.padding is None else visible(self.padding)
        return Found(query.unsqueeze(2), keys, values, mask)

    def reorder(self, selection: Selection) -> None:
        order, _ = selection.of(self.kept.shape[1])
        if order is None:
            return
        if self.padding is not None:
            self.padding = self.padding[order]
        if self.kept.requires_grad:  # autograd needs what was there
            self.kept = self.kept[:, order]
            return
        shape = (2, len(order), *self.kept.shape[2:])
        if self.spare is None or self.spare.shape != shape:
            self.spare = self.kept.new_empty(shape)
        # whole rows, with the room behind them: pieces of rows can take torch many times as long
        rows = torch.cat([order, order + self.kept.shape[1]])
        torch.index_select(self.kept.flatten(0, 1), 0, rows, out=self.spare.flatten(0, 1))
        self.kept, self.spare = self.spare, self.kept

    def _grow(self, new: Tensor) -> None:
        two, rows, heads, dim = new.shape
        grown = new.new_empty(two, rows, heads, self.length + ROOM, dim)
        if self.kept is not None:
            grown[..., : self.length, :] = self.kept
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

    def look_up(self, x: Tensor, padding: Any = None) -> Found:
        """The queries of the new position, x: R x C."""
        heads, dim = self.keys.shape[1], self.keys.shape[3]
        query = self.project(x).view(-1, self.hypotheses, heads, dim).transpose(1, 2)
        return Found(query, self.keys, self.values, self.mask)

    def reorder(self, selection: Selection) -> None:
        order, self.hypotheses = selection.of(len(self.keys), self.hypotheses)
        if order is not None:
            self.keys, self.values = self.keys[order], self.values[order]
            self.mask = None if self.mask is None else self.mask[order]
