"""The registered model ``admin_transformer`` and its named architectures."""

from __future__ import annotations

from typing import Any, Optional

from fairseq.data import Dictionary
from fairseq.models import (
    ARCH_CONFIG_REGISTRY,
    ARCH_MODEL_REGISTRY,
    MODEL_REGISTRY,
    register_model,
    register_model_architecture,
)
from fairseq.models.transformer import TransformerConfig, TransformerModelBase
from fairseq.tasks import FairseqTask
from omegaconf import DictConfig, OmegaConf
from torch import nn

from admin_fairseq.config import (
    ARCHITECTURES,
    AdminTransformerConfig,
    architecture,
    resolve,
)
from admin_fairseq.initialize import initialize
from admin_fairseq.modules.transformer_stack import TransformerDecoder, TransformerEncoder
from admin_fairseq.profiling.run import set_omegas
from admin_fairseq.schemes import BASE_WEIGHTS


class AdminTransformerModel(TransformerModelBase):
    """Encoder-decoder transformer whose residual connections follow a scheme (--init-type)."""

    @classmethod
    def add_args(cls, parser) -> None:
        """Options of the command line: those of the dataclass, without defaults."""
        # TransformerModelBase has an add_args of its own, for fairseq's nested options
        super(TransformerModelBase, cls).add_args(parser)

    @classmethod
    def build_model(cls, cfg: DictConfig, task: FairseqTask) -> AdminTransformerModel:
        """Build, draw the weights and, where a training run starts afresh, set ω.

        Raises AdminError on contradictory options and on profiles that do not fit.
        """
        config = resolve(cfg)
        model = super().build_model(config.nested(), task)
        rules = BASE_WEIGHTS + config.scheme.weights
        initialize(model, rules, config.encoder_layers, config.decoder_layers)
        set_omegas(model, config, task, _whole_run(cfg))
        return model

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


def _whole_run(cfg: Any) -> Optional[DictConfig]:
    """The configuration of the run that this model is part of; None when built by hand."""
    root = cfg._get_root() if OmegaConf.is_config(cfg) else None
    return root if root is not None and "checkpoint" in root else None


def _register() -> None:
    # Registering a name twice is an error in fairseq; importing this module twice is not.
    if "admin_transformer" not in MODEL_REGISTRY:
        register_model("admin_transformer", dataclass=AdminTransformerConfig)(AdminTransformerModel)
    for name in ARCHITECTURES:
        if name not in ARCH_MODEL_REGISTRY:
            register_model_architecture("admin_transformer", name)(architecture(name))
    # under the model's own name fairseq has registered an empty function
    ARCH_CONFIG_REGISTRY["admin_transformer"] = architecture("admin_transformer")


_register()
