"""The registered model ``admin_transformer``, an encoder-decoder for translation."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import ClassVar, Optional

from fairseq.data import Dictionary
from fairseq.models.transformer import TransformerConfig, TransformerModelBase
from fairseq.tasks import FairseqTask
from omegaconf import DictConfig
from torch import nn

from admin_fairseq.config import resolve, telling_contradictions
from admin_fairseq.layers.transformer_stack import TransformerDecoder, TransformerEncoder
from admin_fairseq.models.building import (
    TrainsFast,
    finish_building,
    forget_files_of_embeddings,
    register,
)
from admin_fairseq.models.embeddings import load_embeddings


class AdminTransformerModel(TrainsFast, TransformerModelBase):
    """Encoder-decoder transformer whose residual connections follow a scheme (--init-type)."""

    inputs: ClassVar = {"src_tokens": "encoder", "prev_output_tokens": "decoder"}

    @classmethod
    def add_args(cls, parser: ArgumentParser) -> None:
        """Add the options of the model's dataclass to ``parser``, without default values."""
        # TransformerModelBase has an add_args of its own, for fairseq's nested options
        super(TransformerModelBase, cls).add_args(parser)

    @classmethod
    def build_model(cls, cfg: DictConfig, task: FairseqTask) -> AdminTransformerModel:
        """Build the model, draw its weights and, in a new run, set Admin's residual scales ω.

        Raises AdminError for contradictory options and for a profile (measured per-layer variances)
        that does not fit.
        """
        config = resolve(cfg)
        forget_files_of_embeddings(config, cfg)
        with telling_contradictions():
            model = super().build_model(config.nested(), task)
        finish_building(model, config, task, cfg)
        return model

    @classmethod
    def build_embedding(
        cls,
        cfg: TransformerConfig,
        dictionary: Dictionary,
        embed_dim: int,
        path: Optional[str] = None,
    ) -> nn.Embedding:
        """Build an embedding for ``dictionary``; load vectors from the file ``path``, if given."""
        embedding = super().build_embedding(cfg, dictionary, embed_dim)
        if path:
            load_embeddings(embedding, dictionary, path)
        return embedding

    @classmethod
    def build_encoder(
        cls, cfg: TransformerConfig, src_dict: Dictionary, embed_tokens: nn.Embedding
    ) -> TransformerEncoder:
        return TransformerEncoder(cfg, src_dict, embed_tokens)

    @classmethod
    def build_decoder(
        cls, cfg: TransformerConfig, tgt_dict: Dictionary, embed_tokens: nn.Embedding
    ) -> TransformerDecoder:
        return TransformerDecoder(
            cfg, tgt_dict, embed_tokens, no_encoder_attn=cfg.no_cross_attention
        )


register("admin_transformer", AdminTransformerModel)
