"""The encoder and the decoder: fairseq's classes, built of this plugin's layers.

In each forward pass a stack takes either its fast path or fairseq's own code ("reference kernels",
--reference-kernels). On the fast path it gives the layers a ``Layout`` of the tokens, on the other
one fairseq's masks.

Shapes: T target or S source time, B batch, C channel; fairseq is time-first (T x B x C).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, Callable, Iterator, NoReturn, Optional, cast

import torch
from fairseq.distributed import fsdp_wrap
from fairseq.models.transformer import (
    TransformerConfig,
    TransformerDecoderBase,
    TransformerEncoderBase,
)
from fairseq.models.transformer.transformer_config import EncDecBaseConfig
from fairseq.modules import FairseqDropout
from fairseq.modules.checkpoint_activations import checkpoint_wrapper
from torch import Tensor, nn

from admin_fairseq.config import PluginOptions
from admin_fairseq.errors import AdminError
from admin_fairseq.fast.attention import reads_rows
from admin_fairseq.fast.compiling import compile_for_training
from admin_fairseq.fast.decoding import Memory, Past, Selection
from admin_fairseq.fast.dropout import Dropout
from admin_fairseq.fast.layout import Layout, Row, note, noted
from admin_fairseq.fast.packed import Packed
from admin_fairseq.fast.precision import in_precision, precision_of
from admin_fairseq.layers.transformer_layer import DecoderLayer, EncoderLayer, TransformerLayer
from admin_fairseq.modules.connections import ConnectedLayers
from admin_fairseq.modules.norms import replace_norms
from admin_fairseq.schemes import scheme_of

EncoderOut = dict[str, list[Tensor]]


class TransformerStack:
    """Base class of encoder and decoder: choice of fast path, and connections between layers."""

    reference_kernels: bool
    causal = False  # a position sees none after it
    in_row: bool  # attention may work on rows of sentences
    head_dim: int  # channels of an attention head
    defers_attn: bool  # attention weights may be computed when they are asked for

    # set by fairseq's stack, the other base class
    cfg: TransformerConfig
    layers: nn.ModuleList
    dropout_module: FairseqDropout
    embed_tokens: nn.Embedding
    embed_scale: float
    embed_positions: Optional[nn.Module]
    layernorm_embedding: Optional[nn.Module]
    layer_norm: Optional[nn.Module]
    quant_noise: Optional[nn.Module]
    project_in_dim: Optional[nn.Module]
    padding_idx: int

    def set_up(self, cfg: TransformerConfig, stack: EncDecBaseConfig) -> None:
        """Choose fast path or reference kernels; add what the scheme has between its layers."""
        self.reference_kernels = cfg.reference_kernels
        self.autocast_dtype = precision_of(cfg)
        # a checkpointed layer returns weights without their history
        self.defers_attn = not cfg.checkpoint_activations
        self.in_row = not cfg.compile  # torch.compile has no kernel for rows
        self.head_dim = stack.embed_dim // stack.attention_heads
        if not cfg.reference_kernels:
            self.dropout_module = Dropout.like(self.dropout_module)
        scheme = scheme_of(cfg)
        for pattern, build in scheme.norms:
            replace_norms(cast(nn.Module, self), pattern, build)
        if scheme.first is not None and len(self.layers):
            cast(TransformerLayer, self.layers[0]).place("self_attn", scheme.first)
        if scheme.connections is not None:
            self.connections = scheme.connections(len(self.layers), stack.embed_dim)
            self.layers = ConnectedLayers(self.layers, self.connections)

    def __prepare_scriptable__(self) -> NoReturn:
        """Raise AdminError, as TorchScript cannot compile the layers.

        torch.jit.script calls this method, also when it is given a whole model.
        """
        reason = scheme_of(self.cfg).no_stock_form
        fold = "script the fairseq model into which `admin-fairseq fold` converts a checkpoint"
        remedy = f"no model of fairseq computes the same: {reason}" if reason else fold
        raise AdminError(f"TorchScript cannot read this plugin's layers; {remedy}")

    def layout_of(self, tokens: Tensor) -> Layout:
        """Return where ``tokens`` (B x T) are: from ``note_layout``, or else by reading them."""
        return noted(tokens, self._reader) or self._layout(tokens)

    def note_layout(self, tokens: Tensor, moved: Tensor) -> None:
        """Find where ``tokens`` (B x T) are, so that nobody needs to read their copy ``moved``."""
        note(moved, self._layout(tokens).to(moved.device), self._reader)

    @property
    def _reader(self) -> str:
        return "decoder" if self.causal else "encoder"

    def _layout(self, tokens: Tensor) -> Layout:
        in_row = self.in_row and reads_rows(self.embed_tokens.weight, self.head_dim)
        return Layout.of(tokens.eq(self.padding_idx), self.causal, in_row)

    def embed(self, tokens: Tensor, positions: Any) -> Tensor:
        """Embeddings of tokens of any shape; ``positions`` are added (their embeddings, or 0)."""
        x = self.embed_scale * self.embed_tokens(tokens)
        for change in (self.quant_noise, self.project_in_dim):
            x = x if change is None else change(x)
        x = x + positions
        if self.layernorm_embedding is not None:
            x = self.layernorm_embedding(x)
        return self.dropout_module(x)

    def embed_packed(self, packed: Packed, longest: int) -> Tensor:
        """Embeddings of sentences in one row, N x 1 x C; none is longer than ``longest``."""
        positions: Any = 0.0
        if self.embed_positions is not None:
            # ``longest`` is rounded up, perhaps beyond the positions that are learned
            length = min(longest, cast(Any, self).max_positions())
            sentence = packed.tokens.new_full((1, length), self.padding_idx + 1)
            positions = self.embed_positions(sentence)[0][packed.positions]
        return self.embed(packed.tokens, positions).unsqueeze(1)

    def normed(self, x: Tensor) -> Tensor:
        """The stack's output from its last layer's."""
        return x if self.layer_norm is None else self.layer_norm(x)


class States(Sequence):
    """The outputs of all layers: kept without padding, expanded to T x B x C when accessed."""

    def __init__(self, states: list[Tensor], layout: Layout) -> None:
        self._states, self._layout = states, layout

    def __len__(self) -> int:
        return len(self._states)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return States(self._states[index], self._layout)
        return self._layout.unpack(self._states[index])


class Deferred(Sequence):
    """A list of one value, which is computed when it is first accessed."""

    def __init__(self, compute: Callable[[], Any]) -> None:
        self._compute = cache(compute)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: Any) -> Any:
        found = range(1)[index]  # raises IndexError
        return [self._compute() for _ in found] if isinstance(index, slice) else self._compute()


class TransformerEncoder(TransformerStack, TransformerEncoderBase):
    """fairseq's transformer encoder, built of this plugin's layers, with a fast path."""

    project_in_dim = None  # only fairseq's decoder has one

    def __init__(self, cfg: TransformerConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(cfg, *args, **kwargs)
        self.set_up(cfg, cfg.encoder)

    def build_encoder_layer(self, cfg: TransformerConfig) -> nn.Module:
        return _wrapped(EncoderLayer(cfg), cfg)

    def forward_scriptable(
        self,
        src_tokens: Tensor,
        src_lengths: Optional[Tensor] = None,
        return_all_hiddens: bool = False,
        token_embeddings: Optional[Tensor] = None,
    ) -> dict[str, Sequence[Tensor]]:
        """Encode src_tokens (B x S) and return the dictionary that fairseq's encoder returns.

        Its values are undefined on padding. There is one entry more, the ``Layout``.
        """
        if self.reference_kernels:
            return super().forward_scriptable(
                src_tokens, src_lengths, return_all_hiddens, token_embeddings
            )
        padding = src_tokens.eq(self.padding_idx)
        layout = self.layout_of(src_tokens)
        x, embedding = self.forward_embedding(src_tokens, token_embeddings)
        states = self._states(layout.pack(x.transpose(0, 1)), layout)
        return {
            "encoder_out": [layout.unpack(self.normed(states[-1]))],
            "encoder_padding_mask": [padding],
            "encoder_embedding": [embedding],
            "encoder_states": States(states, layout) if return_all_hiddens else [],
            "fc_results": [],
            "src_tokens": [],
            "layout": [layout],
            "src_lengths": [(~padding).sum(1, dtype=torch.int32, keepdim=True)],
        }

    def _states(self, x: Tensor, layout: Layout) -> list[Tensor]:
        """``x`` and the outputs of all layers."""
        states = [x]
        for layer in self.layers:
            states.append(layer(states[-1], layout=layout))
        return states

    def forward_packed(self, packed: Packed, longest: int) -> tuple[Tensor, Layout]:
        """Encode sentences in one row; returns N x 1 x C and its layout."""
        layout = Layout(row=Row(packed.starts, longest))
        states = self._states(self.embed_packed(packed, longest), layout)
        return self.normed(states[-1]), layout

    def reorder_encoder_out(self, encoder_out: EncoderOut, new_order: Tensor) -> EncoderOut:
        """Reorder the encoder's output along the batch for beam search.

        Beam search needs neither embeddings nor inner states, so both are left out. Adds
        ``sentences`` to fairseq's dictionary: the index of the sentence that each row of the batch
        came from.
        """
        if self.reference_kernels:
            return super().reorder_encoder_out(encoder_out, new_order)
        known = encoder_out.get("sentences")
        count = encoder_out["encoder_padding_mask"][0].shape[0]
        sentences = known[0] if known else torch.arange(count, device=new_order.device)
        chosen = sentences[new_order]
        found = {**encoder_out, "encoder_embedding": [], "encoder_states": []}
        if not torch.equal(chosen, sentences):  # rows of one sentence are equal
            found = super().reorder_encoder_out(found, new_order)
        return {**found, "sentences": [chosen]}


class TransformerDecoder(TransformerStack, TransformerDecoderBase):
    """fairseq's transformer decoder, built of this plugin's layers, with a fast path."""

    causal = True

    def __init__(self, cfg: TransformerConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(cfg, *args, **kwargs)
        self.set_up(cfg, cfg.decoder)
        projection = getattr(self, "output_projection", None)
        if projection is not None and projection.weight.shape[1] != self.output_embed_dim:
            raise AdminError(
                f"--decoder-output-dim {self.output_embed_dim}: the output shares the embeddings, "
                f"{projection.weight.shape[1]} wide; make both equal, or share none"
            )

    def build_decoder_layer(
        self, cfg: TransformerConfig, no_encoder_attn: bool = False
    ) -> nn.Module:
        return _wrapped(DecoderLayer(cfg, no_encoder_attn), cfg)

    def extract_features_scriptable(
        self,
        prev_output_tokens: Tensor,
        encoder_out: Optional[EncoderOut],
        incremental_state: Optional[dict[str, Any]] = None,
        full_context_alignment: bool = False,
        alignment_layer: Optional[int] = None,
        alignment_heads: Optional[int] = None,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Compute features (B x T x C) for prev_output_tokens (B x T).

        Returns them with the same dictionary as fairseq's decoder: attention and inner states. In
        training, attention weights are computed when they are accessed.
        """
        if self.reference_kernels:
            return super().extract_features_scriptable(
                prev_output_tokens,
                encoder_out,
                incremental_state,
                full_context_alignment,
                alignment_layer,
                alignment_heads,
            )
        x, tokens = self._embed(prev_output_tokens, incremental_state)
        if incremental_state is not None:
            padding = tokens.eq(self.padding_idx)
            layout = Layout(padding if padding.any() else None)
        elif full_context_alignment:
            layout = Layout.of(tokens.eq(self.padding_idx))
        else:
            layout = self.layout_of(tokens)
        memory, memory_layout = _read(encoder_out, incremental_state)
        # few losses use them, and torch's kernel does not return them
        deferred = self.training and incremental_state is None and self.defers_attn
        aligned = self.num_layers - 1 if alignment_layer is None else alignment_layer
        states, weights = self._states(
            layout.pack(x.transpose(0, 1)),
            memory,
            aligned,
            incremental_state=incremental_state,
            layout=layout,
            memory_layout=memory_layout,
            defer_attn=deferred,
        )
        x = self._projected(layout.unpack(self.normed(states[-1])).transpose(0, 1))
        averaged = in_precision(_averaged, self.autocast_dtype)
        attention = partial(averaged, x, weights, alignment_heads)
        return x, {
            "attn": Deferred(attention) if deferred else [attention()],
            "inner_states": States(states, layout),
        }

    def _states(
        self, x: Tensor, memory: Optional[Tensor], aligned: Optional[int], **inputs: Any
    ) -> tuple[list[Tensor], Any]:
        """``x`` and the outputs of all layers; the attention weights of layer ``aligned``."""
        states, found = [x], None
        for index, layer in enumerate(self.layers):
            asked = index == aligned
            x, weights, _ = layer(
                states[-1], memory, need_attn=asked, need_head_weights=asked, **inputs
            )
            states.append(x)
            found = weights if asked else found
        return states, found

    def _projected(self, features: Tensor) -> Tensor:
        return features if self.project_out_dim is None else self.project_out_dim(features)

    def forward_packed(
        self, packed: Packed, longest: int, memory: Tensor, memory_layout: Layout
    ) -> Tensor:
        """Features of sentences in one row, N x C; memory and its layout are the encoder's."""
        layouts = {
            "layout": Layout(row=Row(packed.starts, longest, causal=True)),
            "memory_layout": memory_layout,
        }
        states, _ = self._states(self.embed_packed(packed, longest), memory, None, **layouts)
        return self._projected(self.normed(states[-1]).squeeze(1))

    def _embed(
        self, tokens: Tensor, incremental_state: Optional[dict[str, Any]]
    ) -> tuple[Tensor, Tensor]:
        """Return the embeddings of tokens (B x T) as B x T x C, and the tokens.

        In incremental decoding both cover only the last token (T = 1).
        """
        positions: Any = 0.0
        if self.embed_positions is not None:
            positions = self.embed_positions(tokens, incremental_state=incremental_state)
        if incremental_state is not None:
            tokens = tokens[:, -1:]
            positions = positions[:, -1:] if self.embed_positions is not None else positions
        return self.embed(tokens, positions), tokens

    def output_layer(self, features: Tensor) -> Tensor:
        """Project features (B x T x C) to the vocabulary: logits, B x T x V (V types)."""
        return in_precision(super().output_layer, self.autocast_dtype)(features)

    def reorder_incremental_state_scripting(
        self, incremental_state: dict[str, Any], new_order: Tensor
    ) -> None:
        """Reorder the state of all layers between two steps of beam search; called by fairseq."""
        states = incremental_state.values()
        if self.reference_kernels or not all(isinstance(s, (Past, Memory)) for s in states):
            super().reorder_incremental_state_scripting(incremental_state, new_order)
            return
        selection = Selection(new_order)  # shared, so that layers reuse its results
        for state in states:
            state.reorder(selection)


def _averaged(x: Tensor, weights: Any, heads: Optional[int]) -> Optional[Tensor]:
    """Return the mean of the first ``heads`` attention weights (H x B x T x S), B x T x S, like x.

    ``weights`` may be a function that computes them.
    """
    found = weights() if callable(weights) else weights
    return None if found is None else found[:heads].float().type_as(x).mean(0)


def _read(
    encoder_out: Optional[EncoderOut], incremental_state: Optional[dict[str, Any]]
) -> tuple[Optional[Tensor], Layout]:
    """Return the encoder's output for attention and its ``Layout`` (where its padding is).

    The output is S x B x C, or packed (N x 1 x C, without padding). It is None in a decoder without
    an encoder.
    """
    if encoder_out is None or not encoder_out["encoder_out"]:
        return None, Layout()
    memory = encoder_out["encoder_out"][0]
    if incremental_state:  # after the first step, attention has kept what it needs
        return memory, Layout()
    padding, known = encoder_out["encoder_padding_mask"], encoder_out.get("layout")
    layout = cast(Layout, known[0]) if known else Layout.of(padding[0] if padding else None)
    if incremental_state is None:
        return layout.pack(memory), layout
    return memory, layout._replace(kept=None, row=None, hypotheses=_hypotheses(encoder_out))


def _hypotheses(encoder_out: EncoderOut) -> int:
    """Return how many neighbouring rows of beam search each sentence has; 1 if that varies."""
    sentences = encoder_out.get("sentences")
    if not sentences:
        return 1
    _, counts = sentences[0].unique_consecutive(return_counts=True)
    return int(counts[0]) if counts.eq(counts[0]).all() else 1


@contextmanager
def on_reference_kernels(model: nn.Module) -> Iterator[None]:
    """Make the stacks of ``model`` run fairseq's own code inside the ``with`` block.

    There all tensors are T x B x C and every module is called, so that hooks see each of them.
    """
    stacks = [module for module in model.modules() if isinstance(module, TransformerStack)]
    chosen = [stack.reference_kernels for stack in stacks]
    for stack in stacks:
        stack.reference_kernels = True
    try:
        yield
    finally:
        for stack, choice in zip(stacks, chosen):
            stack.reference_kernels = choice


def shard_layers(model: nn.Module, cfg: PluginOptions) -> None:
    """Shard every layer over the workers, if --ddp-backend is fully_sharded.

    fairseq shards a layer when it builds it, but sharded parameters can no longer be initialised or
    profiled. As in fairseq, only a layer that is large enough, or that checkpoints its activations,
    is sharded.
    """
    least = 0 if cfg.checkpoint_activations else cfg.min_params_to_wrap
    for stack in model.modules():
        if isinstance(stack, TransformerStack):
            for index in range(len(stack.layers)):
                stack.layers[index] = fsdp_wrap(stack.layers[index], min_num_params=least)


def _wrapped(layer: nn.Module, cfg: TransformerConfig) -> nn.Module:
    """Return ``layer`` with compilation, autocast and activation checkpointing as configured."""
    if cfg.compile:
        compile_for_training(layer)
    if cfg.autocast:
        layer.forward = in_precision(layer.forward, precision_of(cfg))
    if cfg.checkpoint_activations:
        return checkpoint_wrapper(layer, offload_to_cpu=cfg.offload_activations)
    return layer
