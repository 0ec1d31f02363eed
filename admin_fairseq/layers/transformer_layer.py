"""The encoder layer and the decoder layer, one of each for all schemes.

Shapes: T target or S source time, B batch, C channel; fairseq is time-first (T x B x C). Parameters
keep fairseq's names; a scheme's residual modules add theirs under ``residuals.<sub-layer>``. A
layer that is given layouts (``fast.layout``, made by this plugin's stacks) computes with the fast
kernels; given padding masks (B x T, True on padding), it computes as fairseq does.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any, Callable, Mapping, Optional, Sequence, cast

from fairseq.models.transformer import TransformerConfig
from fairseq.modules import FairseqDropout, LayerNorm
from fairseq.modules.transformer_layer import (
    TransformerDecoderLayerBase,
    TransformerEncoderLayerBase,
)
from torch import Tensor, nn

from admin_fairseq.errors import AdminError
from admin_fairseq.fast.attention import Attention
from admin_fairseq.fast.dropout import Dropout, name_as_in_fairseq
from admin_fairseq.fast.layout import Layout
from admin_fairseq.modules.inputs import put_before
from admin_fairseq.modules.norms import layer_norm, replace_norms
from admin_fairseq.modules.residual import Residual, Residuals
from admin_fairseq.repairs.private import LoadsAsTorchDoes
from admin_fairseq.schemes import LAYER_NORMS, Norm, scheme_of

Branch = Callable[[Tensor], Tensor]
"""What a sub-layer adds to its input: a function of T x B x C to T x B x C."""


class TransformerLayer(nn.Module):
    """Base class of encoder and decoder layer: residual sub-layers, feed-forward network."""

    norms: dict[str, Norm]  # of each sub-layer
    residuals: nn.ModuleDict
    inner_norms: nn.ModuleDict  # before branches, where another layer norm follows the sum
    output_norms: nn.ModuleDict  # of branches, before dropout

    # set by fairseq's layer, the other base class
    embed_dim: int
    self_attn: Attention
    encoder_attn: Any  # Attention, or None in a language model
    fc1: nn.Module
    fc2: nn.Module
    activation_fn: Callable[[Tensor], Tensor]
    dropout_module: FairseqDropout
    activation_dropout_module: FairseqDropout

    def set_scheme(
        self, cfg: TransformerConfig, normalize_before: bool, sublayers: Sequence[str]
    ) -> None:
        """Make layer norms, residual connections and inputs of linear maps those of the scheme.

        ``sublayers`` are names like self_attn and ffn; ``normalize_before`` chooses Pre-LN over
        Post-LN where the scheme leaves the choice open.
        """
        scheme = scheme_of(cfg)
        name_as_in_fairseq(self)
        if not cfg.reference_kernels:
            self.dropout_module = Dropout.like(self.dropout_module)
            self.activation_dropout_module = Dropout.like(self.activation_dropout_module)
        norm = scheme.norm
        if norm is Norm.EACH:
            norm = Norm.PRE if normalize_before else Norm.POST
        self.norms: dict[str, Norm] = {}
        self.inner_norms, self.output_norms = nn.ModuleDict(), nn.ModuleDict()
        for name in sublayers:
            self.place(name, norm)
            if re.fullmatch(scheme.output_norms, name):
                self.output_norms[name] = LayerNorm(self.embed_dim)
        for pattern, build in scheme.norms:
            replace_norms(self, pattern, build)
        shared = scheme.residual(self.embed_dim) if scheme.one_residual_per_layer else None
        self.residuals = Residuals(
            {name: shared or scheme.residual(self.embed_dim) for name in sublayers}
        )
        for pattern, build in scheme.inputs:
            put_before(self, pattern, build, self.self_attn.num_heads)

    def place(self, name: str, norm: Norm) -> None:
        """Give the sub-layer ``name`` the layer norms that ``norm`` says."""
        self.norms[name] = norm
        if norm is Norm.NONE:
            setattr(self, LAYER_NORMS[name], None)
        if norm.before and norm.after:
            self.inner_norms[name] = LayerNorm(self.embed_dim)
        elif name in self.inner_norms:
            del self.inner_norms[name]

    def norms_around(self, name: str) -> tuple[Any, Any]:
        """Return the layer norms before the branch of the sub-layer ``name`` and after its sum.

        Either may be None. Where there are both, the one after has fairseq's name.
        """
        norm, own = self.norms[name], getattr(self, LAYER_NORMS[name])
        before = self.inner_norms[name] if norm.after and norm.before else own
        return before if norm.before else None, own if norm.after else None

    def sublayers(
        self, x: Tensor, branches: Mapping[str, Branch], stream: Optional[Tensor], fast: bool
    ) -> tuple[Tensor, Optional[Tensor]]:
        """Compute the sub-layers with these ``branches``, one after the other.

        Returns the output, shaped like x (T x B x C), and the second residual ``stream``. With
        ``fast``, sums and layer norms are computed together where that is possible.
        """
        layer_input = x if self.norms["ffn"] is Norm.B2T else None  # the FFN adds it again
        norms = [self.norms_around(name)[0] for name in branches]
        normed = None
        for (name, f), following in zip(branches.items(), [*norms[1:], None]):
            bottom = layer_input if name == "ffn" else None
            if fast and stream is None and bottom is None:
                x, normed = self.fused_sublayer(name, x, f, normed, following)
            else:
                x, stream = self.sublayer(name, x, f, stream, bottom)
        return x, stream

    def sublayer(
        self,
        name: str,
        x: Tensor,
        f: Branch,
        stream: Optional[Tensor] = None,
        bottom: Optional[Tensor] = None,
    ) -> tuple[Tensor, Optional[Tensor]]:
        """Compute one residual sub-layer: join x (T x B x C) with f(x), and apply layer norm.

        ``name`` is that of the sub-layer. ``stream`` is a second residual stream (T x B x C), to
        which the branch is added (ResiDual), and ``bottom`` the layer's input (T x B x C), which is
        added to the sum (B2T); None if there is none. Returns the output and the stream.
        """
        after = self.norms_around(name)[1]
        branch = self.dropout_module(self.branch(name, x, f))
        joined = self.residual(name)(x, branch)
        if stream is not None:
            stream = stream + branch
        if bottom is not None:
            joined = joined + bottom
        return joined.type_as(x) if after is None else layer_norm(after, joined), stream

    def fused_sublayer(
        self, name: str, x: Tensor, f: Branch, normed: Optional[Tensor], following: Any
    ) -> tuple[Tensor, Optional[Tensor]]:
        """Compute what ``sublayer`` does; sum and layer norm in one kernel, if there is one.

        Where no layer norm comes after the sum, it is that of the ``following`` sub-layer (None:
        there is none). Its output is returned too, to be given to that sub-layer as ``normed``.
        """
        after = self.norms_around(name)[1]
        branch, residual = self.branch(name, x, f, normed), self.residual(name)
        if after is not None:
            return residual.norm(x, branch, after, self.dropout_module), None
        if following is not None:
            return residual.sum_and_norm(x, branch, following, self.dropout_module)
        return residual(x, self.dropout_module(branch)).type_as(x), None

    def branch(self, name: str, x: Tensor, f: Branch, normed: Optional[Tensor] = None) -> Tensor:
        """Return f(x) with the layer norms before and after it (``normed``: x after the first)."""
        if normed is None:
            before = self.norms_around(name)[0]
            normed = x if before is None else layer_norm(before, x)
        found = f(normed)
        return layer_norm(self.output_norms[name], found) if name in self.output_norms else found

    def residual(self, name: str) -> Residual:
        """Return the residual connection of the sub-layer ``name``."""
        return cast(Residual, self.residuals[name])  # torch types it as a module

    def attention(
        self, embed_dim: int, heads: int, cfg: TransformerConfig, **kind: Any
    ) -> Attention:
        """Build the multi-head attention of a sub-layer; ``kind`` goes to fairseq's constructor."""
        attention = Attention(
            embed_dim,
            heads,
            dropout=cfg.attention_dropout,
            q_noise=self.quant_noise,
            qn_block_size=self.quant_noise_block_size,
            **kind,
        )
        name_as_in_fairseq(attention)
        return attention

    def feed_forward(self, x: Tensor) -> Tensor:
        """Apply the feed-forward network to x (T x B x C), without residual and layer norm."""
        x = self.activation_dropout_module(self.activation_fn(self.fc1(x)))
        return self.fc2(x)


class EncoderLayer(LoadsAsTorchDoes, TransformerLayer, TransformerEncoderLayerBase):
    """Encoder layer: self-attention and a feed-forward network."""

    def __init__(self, cfg: TransformerConfig) -> None:
        super().__init__(cfg)
        _drop_mirrored_weights(self)
        self.set_scheme(cfg, cfg.encoder.normalize_before, ["self_attn", "ffn"])

    def build_self_attention(self, embed_dim: int, cfg: TransformerConfig) -> Attention:
        heads = cfg.encoder.attention_heads
        return self.attention(embed_dim, heads, cfg, self_attention=True)

    def forward(
        self,
        x: Tensor,
        encoder_padding_mask: Optional[Tensor] = None,
        layout: Optional[Layout] = None,
        stream: Optional[Tensor] = None,
    ) -> Any:
        """Return the layer's output, shaped like x; with a second ``stream``, (output, stream).

        x is S x B x C, or N x 1 x C if ``layout`` packs (leaves out padding).
        """

        def self_attention(x: Tensor) -> Tensor:
            return self.self_attn(
                query=x,
                key=x,
                value=x,
                key_padding_mask=encoder_padding_mask,
                layouts=layout and (layout, layout),
                need_weights=False,
            )[0]

        branches: dict[str, Branch] = {"self_attn": self_attention, "ffn": self.feed_forward}
        x, stream = self.sublayers(x, branches, stream, fast=layout is not None)
        return x if stream is None else (x, stream)

    def upgrade_state_dict_named(self, state_dict: dict, name: str) -> None:
        """Remove the second copy of weights that fairseq 0.12.2 saves (MIRRORED_WEIGHTS).

        fairseq calls this before it loads a checkpoint.
        """
        super().upgrade_state_dict_named(state_dict, name)
        for mirrored in MIRRORED_WEIGHTS:
            state_dict.pop(f"{name}.{mirrored}", None)


class DecoderLayer(TransformerLayer, TransformerDecoderLayerBase):
    """Decoder layer: self-attention, attention to the encoder (if any), feed-forward network."""

    def __init__(self, cfg: TransformerConfig, no_encoder_attn: bool = False) -> None:
        super().__init__(cfg, no_encoder_attn)
        sublayers = [s for s in LAYER_NORMS if s != "encoder_attn" or not no_encoder_attn]
        self.set_scheme(cfg, cfg.decoder.normalize_before, sublayers)

    def build_self_attention(
        self, embed_dim: int, cfg: TransformerConfig, add_bias_kv: bool = False, **kind: Any
    ) -> Attention:
        heads = cfg.decoder.attention_heads
        return self.attention(
            embed_dim, heads, cfg, self_attention=True, add_bias_kv=add_bias_kv, **kind
        )

    def upgrade_state_dict_named(self, state_dict: dict, name: str) -> None:
        """Raise AdminError for a checkpoint trained with another --subln-in-encoder-attention.

        fairseq calls this before it loads a checkpoint.
        """
        norm, own = "{}.out_proj.before.weight".format, dict(self.named_parameters())
        is_subln = norm("self_attn") in own and f"{name}.{norm('self_attn')}" in state_dict
        has, wanted = f"{name}.{norm('encoder_attn')}" in state_dict, norm("encoder_attn") in own
        if is_subln and has != wanted:
            raise AdminError(
                f"the checkpoint's attention to the encoder has {'a' if has else 'no'} layer norm "
                f"inside: {'add' if has else 'leave out'} --subln-in-encoder-attention"
            )

    def build_encoder_attention(self, embed_dim: int, cfg: TransformerConfig) -> Attention:
        width = cfg.encoder.embed_dim
        heads = cfg.decoder.attention_heads
        return self.attention(
            embed_dim, heads, cfg, encoder_decoder_attention=True, kdim=width, vdim=width
        )

    def forward(
        self,
        x: Tensor,
        encoder_out: Optional[Tensor] = None,
        encoder_padding_mask: Optional[Tensor] = None,
        incremental_state: Optional[dict[str, Any]] = None,
        self_attn_mask: Optional[Tensor] = None,
        self_attn_padding_mask: Optional[Tensor] = None,
        need_attn: bool = False,
        need_head_weights: bool = False,
        layout: Optional[Layout] = None,
        memory_layout: Optional[Layout] = None,
        stream: Optional[Tensor] = None,
        defer_attn: bool = False,
    ) -> tuple[Tensor, Any, Optional[Tensor]]:
        """Compute the layer's output and, if requested, the weights of attention to the encoder.

        x is T x B x C and encoder_out S x B x C; either is N x 1 x C instead if its layout
        (``layout``, ``memory_layout``) packs, that is, leaves out padding. Returns the output
        (shaped like x), the weights (B x T x S, or heads x B x T x S with ``need_head_weights``;
        None unless requested or decoding; with ``defer_attn`` a function that computes them) and
        the second ``stream``, if there is one (there fairseq returns a state for ONNX).
        """
        attention: Any = None

        def self_attention(x: Tensor) -> Tensor:
            return self.self_attn(
                query=x,
                key=x,
                value=x,
                incremental_state=incremental_state,
                need_weights=False,
                attn_mask=self_attn_mask,
                key_padding_mask=self_attn_padding_mask,
                layouts=layout and (layout, layout),
            )[0]

        def encoder_attention(x: Tensor) -> Tensor:
            nonlocal attention
            attend = partial(
                self.encoder_attn,
                query=x,
                key=encoder_out,
                value=encoder_out,
                incremental_state=incremental_state,
                static_kv=True,
                need_head_weights=need_head_weights,
                key_padding_mask=encoder_padding_mask,
                layouts=layout and (layout, memory_layout),
            )
            asked = need_attn or need_head_weights or (not self.training and self.need_attn)
            if asked and defer_attn:
                attention = partial(_weights, attend)
                return attend(need_weights=False, need_head_weights=False)[0]
            x, attention = attend(need_weights=asked)
            return x

        branches: dict[str, Branch] = {"self_attn": self_attention}
        if self.encoder_attn is not None and encoder_out is not None:
            branches["encoder_attn"] = encoder_attention
        branches["ffn"] = self.feed_forward
        x, stream = self.sublayers(x, branches, stream, fast=layout is not None)
        return x, attention, stream


def _weights(attend: Callable[..., tuple[Tensor, Optional[Tensor]]]) -> Optional[Tensor]:
    """Return the weights of an attention that is called with everything else."""
    return attend(need_weights=True)[1]


MIRRORED_WEIGHTS = tuple(
    f"{module}_{kind}"
    for module in ("in_proj", "out_proj", "fc1", "fc2")
    for kind in ("weight", "bias")
)
"""Names of the second copy of an encoder layer's weights, which fairseq 0.12.2 keeps for inference.
"""


def _drop_mirrored_weights(layer: nn.Module) -> None:
    """Delete the second copy of an encoder layer's weights that fairseq 0.12.2 keeps.

    fairseq reads the copy in inference; the forward of this plugin's layer does not.
    """
    for name in MIRRORED_WEIGHTS:
        if hasattr(layer, name):
            delattr(layer, name)
