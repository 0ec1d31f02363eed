"""Multi-head attention with fairseq's parameters and state-dict keys, and torch's fused kernel.

Shapes: T target or S source time, B batch, C channel, H heads, D = C/H. In incremental decoding the
batch has R rows: K neighbouring hypotheses of each of B sentences.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any, Callable, Optional

import torch
import torch.nn.functional as F
from fairseq.modules import MultiheadAttention
from torch import Tensor, nn

from admin_fairseq.fast.decoding import AttentionInputs, Linear, Memory, Past, Selection
from admin_fairseq.fast.layout import Layout, Row
from admin_fairseq.kernels.trial import Compared, works
from admin_fairseq.repairs.private import calls_anything_before, flash_attention

STATE = "attn_state"

WIDEST_HEAD = 192
"""Channels of a head up to which torch's flash attention has a backward pass on every GPU."""


class Attention(MultiheadAttention):
    """fairseq's multi-head attention, with a faster path that is taken if ``layouts`` are given.

    The fast path computes queries, keys and values (keys and values, in attention to the encoder)
    with one matrix product from what fairseq stores as three maps, then calls torch's
    ``scaled_dot_product_attention``. In incremental decoding it updates keys and values in place.
    """

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Optional[Tensor] = None,
        incremental_state: Optional[dict[str, Any]] = None,
        need_weights: bool = True,
        static_kv: bool = False,
        attn_mask: Optional[Tensor] = None,
        before_softmax: bool = False,
        need_head_weights: bool = False,
        layouts: Optional[tuple[Layout, Layout]] = None,
    ) -> tuple[Tensor, Optional[Tensor]]:
        """Attend from query (T x B x C) to key (S x B x C).

        Either is N x 1 x C instead if its layout packs (leaves out padding).

        ``layouts``, those of queries and of keys, replace the masks; without them fairseq's own
        forward runs. Returns a tensor shaped like query and, if requested, the attention weights: B
        x T x S, or H x B x T x S with ``need_head_weights``.
        """
        if layouts is None:
            return super().forward(
                query,
                key,
                value,
                key_padding_mask,
                incremental_state,
                need_weights,
                static_kv,
                attn_mask,
                before_softmax,
                need_head_weights,
            )
        asked = need_weights or need_head_weights
        if incremental_state is None:
            out, weights = self._at_once(query, key, *layouts, asked)
        else:
            out, weights = self._one_step(query, key, *layouts, incremental_state, asked)
        if weights is not None:
            weights = weights.transpose(0, 1)
            weights = weights if need_head_weights else weights.mean(0)
        return self.out_proj(out), weights

    def _at_once(
        self, query: Tensor, key: Tensor, mine: Layout, theirs: Layout, need_weights: bool
    ) -> tuple[Tensor, Optional[Tensor]]:
        """Attend from all positions of ``query`` (layout ``mine``) to ``key`` (layout ``theirs``).

        Returns a tensor shaped like query and the attention weights, B x H x T x S (None unless
        needed).
        """
        if mine.row and theirs.row:
            only_in_row = mine.kept is None  # made by forward_packed, never padded
            if only_in_row or (not need_weights and reads_rows(query, self.head_dim)):
                return self._in_row(query, key, mine.row, theirs.row), None
        if self.self_attention:
            joined = join(self.q_proj, self.k_proj, self.v_proj)
            q, k, v = mine.unpack(joined(query)).chunk(3, dim=-1)
        else:
            q = mine.unpack(self.q_proj(query))
            k, v = theirs.unpack(join(self.k_proj, self.v_proj)(key)).chunk(2, dim=-1)
        q, k, v = (self._heads(t) for t in (q, k, v))
        out, weights = self._attend(q, k, v, theirs.mask, theirs.causal, need_weights)
        return mine.pack(out.permute(2, 0, 1, 3).flatten(2)), weights

    def _in_row(self, query: Tensor, key: Tensor, mine: Row, theirs: Row) -> Tensor:
        """Attend among sentences that follow one another in a row, without padding.

        query: N x 1 x C; key: M x 1 x C; ``mine`` and ``theirs`` say where the sentences of queries
        and of keys begin. A query sees the keys of its own sentence; if ``causal``, none after it.
        Returns N x 1 x C.
        """
        heads = -1, self.head_dim
        if self.self_attention:
            joined = join(self.q_proj, self.k_proj, self.v_proj)(query)
            q, k, v = joined.view(len(query), 3, *heads).unbind(1)
        else:
            q = self.q_proj(query).view(len(query), *heads)
            k, v = join(self.k_proj, self.v_proj)(key).view(len(key), 2, *heads).unbind(1)
        out = attend_in_row(q, k, v, mine, theirs, self._dropout())
        return out.reshape(len(query), 1, -1)

    def _one_step(
        self,
        query: Tensor,
        key: Tensor,
        mine: Layout,
        theirs: Layout,
        incremental_state: dict[str, Any],
        need_weights: bool,
    ) -> tuple[Tensor, Optional[Tensor]]:
        """Attend from the next position (query: 1 x R x C) of incremental decoding.

        Returns 1 x R x C and the attention weights, R x H x 1 x S (None unless needed).
        """
        state = self.get_incremental_state(incremental_state, STATE)
        if not state:  # fairseq's own attention leaves an empty dict when reordered
            state = self._first_state(key, theirs)
            self.set_incremental_state(incremental_state, STATE, state)
        found: AttentionInputs = state.look_up(query[0], mine.padding)
        # torch's CPU kernel is made for many positions: for one it takes twice as long
        plainly = need_weights or query.device.type == "cpu"
        out, weights = self._attend(*found, False, plainly)
        out = out.transpose(1, 2).reshape_as(query)
        if weights is None or not need_weights:
            return out, None
        return out, weights.transpose(1, 2).reshape(-1, self.num_heads, 1, weights.shape[-1])

    def _first_state(self, key: Tensor, theirs: Layout) -> Past | Memory:
        """Create the state of incremental decoding, for self-attention or for encoder attention."""
        if self.self_attention:
            return Past(join(self.q_proj, self.k_proj, self.v_proj), self.head_dim)
        sentences = key[:, :: theirs.hypotheses]
        k, v = join(self.k_proj, self.v_proj)(sentences).chunk(2, dim=-1)
        mask = None if theirs.mask is None else theirs.mask[:: theirs.hypotheses]
        return Memory(self.q_proj, self._heads(k), self._heads(v), mask, theirs.hypotheses)

    def reorder_incremental_state(
        self, incremental_state: Optional[dict[str, Any]], new_order: Tensor
    ) -> Optional[dict[str, Any]]:
        """Reorder the state of incremental decoding between two steps of beam search.

        fairseq's decoder calls this for each attention; this plugin's decoder reorders all layers
        itself.
        """
        state = self.get_incremental_state(incremental_state, STATE)
        if isinstance(state, (Past, Memory)):
            state.reorder(Selection(new_order))
            return incremental_state
        return super().reorder_incremental_state(incremental_state, new_order)

    def _heads(self, x: Tensor) -> Tensor:
        """Split the channels into heads: T x B x C → B x H x T x D."""
        return x.unflatten(-1, (-1, self.head_dim)).permute(1, 2, 0, 3)

    def _attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Optional[Tensor],
        causal: bool,
        need_weights: bool,
    ) -> tuple[Tensor, Optional[Tensor]]:
        """Call ``attend`` with the dropout probability that applies now, in training or not."""
        return attend(q, k, v, mask, causal, need_weights, self._dropout())

    def _dropout(self) -> float:
        """Return the dropout probability of attention weights that applies now."""
        drops = self.training or self.dropout_module.apply_during_inference
        return self.dropout_module.p if drops else 0.0


def join(*maps: nn.Linear) -> Linear:
    """Return a function that applies ``maps`` to the same input and concatenates their outputs.

    It is one matrix product, unless a map is more than a product (it has a module before it, see
    modules/inputs.py, or fairseq's quantisation); then the maps are called one by one.
    """
    if any(calls_anything_before(m) or type(m).forward is not nn.Linear.forward for m in maps):
        return lambda x: torch.cat([linear(x) for linear in maps], dim=-1)
    weight = torch.cat([linear.weight for linear in maps])
    bias = None if maps[0].bias is None else torch.cat([linear.bias for linear in maps])
    return partial(F.linear, weight=weight, bias=bias)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Optional[Tensor],
    causal: bool,
    need_weights: bool,
    dropout: float,
) -> tuple[Tensor, Optional[Tensor]]:
    """Compute softmax(q kᵀ/√D) v, and the attention weights if needed (Vaswani et al. 2017, eq. 1).

    q: B x H x T x D; k, v: B x H x S x D; mask: B x 1 x (1 or T) x S, True where a query may look.
    ``causal`` hides all later positions. Returns B x H x T x D and the weights, B x H x T x S or
    None.
    """
    if need_weights or slow_in_half(q):  # torch's kernel returns no weights
        return attend_plainly(q, k, v, mask, causal, dropout)
    found = F.scaled_dot_product_attention(q, k, v, mask, dropout_p=dropout, is_causal=causal)
    return found, None


def slow_in_half(q: Tensor) -> bool:
    """Whether torch's kernel takes four times as long as separate steps (half precision, CPU)."""
    return q.device.type == "cpu" and q.element_size() < 4


def reads_rows(x: Tensor, head_dim: int) -> bool:
    """Whether ``attend_in_row`` works, with ``head_dim`` channels a head, for tensors like x.

    On a GPU the first call tries it, and logs a warning if it fails.
    """
    return (
        x.is_cuda
        and x.element_size() == 2
        and fits_rows(head_dim)
        and _has_flash_attention(x.device)
        and works("attention without padding", _comparing(head_dim), x.device, x.dtype)
    )


def fits_rows(head_dim: int) -> bool:
    """Whether torch's flash attention takes heads of ``head_dim`` channels."""
    return head_dim % 8 == 0 and head_dim <= WIDEST_HEAD


@cache
def _has_flash_attention(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= (8, 0)


def attend_in_row(
    q: Tensor, k: Tensor, v: Tensor, mine: Row, theirs: Row, dropout: float
) -> Tensor:
    """``attend`` of each sentence to its own keys; q: N x H x D; k, v: M x H x D.

    Returns N x H x D, zeros for a sentence without keys.
    """
    if not q.is_cuda:
        return attend_in_row_plainly(q, k, v, mine, theirs, dropout)
    rows = (mine.starts, theirs.starts), (mine.longest, theirs.longest)
    return flash_attention(q, k, v, *rows, dropout, theirs.causal)


def attend_in_row_plainly(
    q: Tensor, k: Tensor, v: Tensor, mine: Row, theirs: Row, dropout: float
) -> Tensor:
    """Compute the same as ``attend_in_row``, with a mask of N x M."""
    own, other = (_sentences(row, len(t)) for row, t in ((mine, q), (theirs, k)))
    mask = own[:, None] == other
    mask = mask.tril() if theirs.causal else mask
    seen = mask.any(1, keepdim=True)
    q, k, v = (t.transpose(0, 1)[None] for t in (q, k, v))
    out, _ = attend_plainly(q, k, v, (mask | ~seen)[None, None], False, dropout)
    return out[0].transpose(0, 1) * seen[:, None]


@cache
def _comparing(head_dim: int) -> Callable[..., Compared]:
    return partial(compared, head_dim)


def compared(head_dim: int, device: torch.device, dtype: torch.dtype) -> Compared:
    """Compute attention among three short sentences, and its gradients, both ways.

    Sentences attend to themselves, causally, or to others of other lengths.
    """
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(16, 4, 2, head_dim, generator=generator).to(device, dtype)
    starts = torch.tensor([[0, 3, 8, 16], [0, 5, 6, 14]], dtype=torch.int32, device=device)
    mine, itself, others = Row(starts[0], 8), Row(starts[0], 8, causal=True), Row(starts[1], 8)
    found: Compared = {}
    for name, theirs, length in (("itself", itself, 16), ("others", others, 14)):
        passes = []
        for attend_rows, of in ((attend_in_row, dtype), (attend_in_row_plainly, torch.float32)):
            inputs = drawn.to(of, copy=True).requires_grad_()
            q, k, v, gradient = inputs.unbind(1)
            out = attend_rows(q, k[:length], v[:length], mine, theirs, 0.0)
            passes.append((out, *torch.autograd.grad(out, inputs, gradient)[0].unbind(1)[:3]))
        names = [f"{part}, {name}" for part in ("output", "dq", "dk", "dv")]
        found.update(zip(names, zip(*passes)))
    return found


def _sentences(row: Row, length: int) -> Tensor:
    """The number of the sentence that each token of a row belongs to."""
    places = torch.arange(length, device=row.starts.device)
    return torch.bucketize(places, row.starts[1:].long(), right=True)


def attend_plainly(
    q: Tensor, k: Tensor, v: Tensor, mask: Optional[Tensor], causal: bool, dropout: float
) -> tuple[Tensor, Tensor]:
    """Compute the same as ``attend``, step by step; return the weights before dropout too."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    precise = torch.promote_types(scores.dtype, torch.float32)
    weights = scores.softmax(-1, dtype=precise).type_as(v)
    kept = F.dropout(weights, dropout) if dropout else weights
    return kept @ v, weights
