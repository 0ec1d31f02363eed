"""The registered model ``admin_transformer_lm``: a decoder alone, for language modelling."""

from __future__ import annotations

from typing import ClassVar

from fairseq.models.transformer_lm import TransformerLanguageModel
from fairseq.tasks import FairseqTask
from omegaconf import DictConfig

from admin_fairseq.config import resolve, telling_contradictions
from admin_fairseq.layers.transformer_stack import TransformerDecoder
from admin_fairseq.models.building import TrainsFast, finish_building, register


class AdminTransformerLanguageModel(TrainsFast, TransformerLanguageModel):
    """Language model whose residual connections follow a scheme (--init-type).

    Its state-dict keys are those of fairseq's ``transformer_lm``; residual modules may add their
    own.
    """

    inputs: ClassVar = {"src_tokens": "decoder"}

    @classmethod
    def build_model(cls, cfg: DictConfig, task: FairseqTask) -> AdminTransformerLanguageModel:
        """Build the model, draw its weights and, in a new run, set Admin's residual scales ω.

        Raises AdminError for contradictory options and for a profile (measured per-layer variances)
        that does not fit.
        """
        config = resolve(cfg)
        with telling_contradictions():
            embeddings = cls.build_embedding(
                config, task.source_dictionary, config.decoder_input_dim
            )
            model = cls(
                TransformerDecoder(
                    config.nested(), task.target_dictionary, embeddings, no_encoder_attn=True
                )
            )
        finish_building(model, config, task, cfg)
        return model


register("admin_transformer_lm", AdminTransformerLanguageModel)
