"""fairseq's encoder and decoder around our layers."""

from typing import Any

from fairseq.distributed import fsdp_wrap
from fairseq.models.transformer import (
    TransformerConfig,
    TransformerDecoderBase,
    TransformerEncoderBase,
)
from fairseq.modules.checkpoint_activations import checkpoint_wrapper
from torch import nn

from admin_fairseq.modules.connections import ConnectedLayers
from admin_fairseq.modules.transformer_layer import DecoderLayer, EncoderLayer
from admin_fairseq.schemes import scheme_of


class TransformerEncoder(TransformerEncoderBase):
    def __init__(self, cfg: TransformerConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(cfg, *args, **kwargs)
        _connect(self, cfg, cfg.encoder.embed_dim)

    def build_encoder_layer(self, cfg: TransformerConfig) -> nn.Module:
        return _wrapped(EncoderLayer(cfg), cfg)


class TransformerDecoder(TransformerDecoderBase):
    def __init__(self, cfg: TransformerConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(cfg, *args, **kwargs)
        _connect(self, cfg, cfg.decoder.embed_dim)

    def build_decoder_layer(
        self, cfg: TransformerConfig, no_encoder_attn: bool = False
    ) -> nn.Module:
        return _wrapped(DecoderLayer(cfg, no_encoder_attn), cfg)


def _connect(stack: nn.Module, cfg: TransformerConfig, dim: int) -> None:
    """Give the layers the connections of the scheme, if it has its own."""
    connections = scheme_of(cfg).connections
    if connections is not None:
        stack.connections = connections(len(stack.layers), dim)
        stack.layers = ConnectedLayers(stack.layers, stack.connections)


def _wrapped(layer: nn.Module, cfg: TransformerConfig) -> nn.Module:
    """Activation checkpointing and FSDP, as fairseq's own layers get them."""
    if cfg.checkpoint_activations:
        layer = checkpoint_wrapper(layer, offload_to_cpu=cfg.offload_activations)
        return fsdp_wrap(layer, min_num_params=0)
    return fsdp_wrap(layer, min_num_params=cfg.min_params_to_wrap)
