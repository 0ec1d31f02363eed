"""The registered model ``admin_transformer_mlm``: an encoder alone, for masked LM.

A trained one can be fine-tuned to classify sentences.
"""

from __future__ import annotations

from typing import Any, ClassVar, Optional

from fairseq.models.roberta.model import RobertaLMHead
from fairseq.models.transformer import Embedding
from fairseq.tasks import FairseqTask
from omegaconf import DictConfig
from torch import Tensor

from admin_fairseq.config import PluginOptions, resolve, telling_contradictions
from admin_fairseq.fast.precision import in_precision
from admin_fairseq.layers.transformer_stack import TransformerEncoder
from admin_fairseq.models.building import TrainsFast, finish_building, register
from admin_fairseq.models.classification_heads import EncoderWithHeads


class AdminMaskedLanguageModel(TrainsFast, EncoderWithHeads):
    """Masked language model whose residual connections follow a scheme (--init-type).

    Its encoder is that of ``admin_transformer``, its head that of fairseq's ``roberta``: a linear
    map, the activation function, layer norm, and the embeddings, transposed, with a bias. Unlike
    ``roberta`` it does not draw all weights from BERT's distribution, except with --bert-init.
    """

    inputs: ClassVar = {"src_tokens": "encoder"}
    encoder: TransformerEncoder
    lm_head: RobertaLMHead

    def __init__(
        self, encoder: TransformerEncoder, config: PluginOptions, lm_head: RobertaLMHead
    ) -> None:
        super().__init__(encoder, config)
        self.lm_head = lm_head

    @classmethod
    def build_model(cls, cfg: DictConfig, task: FairseqTask) -> AdminMaskedLanguageModel:
        """Build the model, draw its weights and, in a new run, set Admin's residual scales ω.

        Raises AdminError for contradictory options and for a profile (measured per-layer variances)
        that does not fit.
        """
        config, dictionary = resolve(cfg), task.source_dictionary
        types, dim = len(dictionary), config.encoder_embed_dim
        with telling_contradictions():
            embeddings = Embedding(types, dim, dictionary.pad())
            encoder = TransformerEncoder(config.nested(), dictionary, embeddings)
            head = RobertaLMHead(dim, types, config.activation_fn, embeddings.weight)
            model = cls(encoder, config, head)
        finish_building(model, config, task, cfg)
        return model

    def forward(
        self,
        src_tokens: Tensor,
        features_only: bool = False,
        return_all_hiddens: bool = False,
        masked_tokens: Optional[Tensor] = None,
        classification_head_name: Optional[str] = None,
        **unused: Any,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Compute logits for src_tokens (B x T): B x T x V, on padding undefined.

        With ``masked_tokens`` (B x T, boolean) they are those of the K tokens where it is True, K x
        V. With ``features_only`` the encoder's output, B x T x C, is returned in their place, with
        ``classification_head_name`` the output of that head, B x classes. The dictionary has the
        inner states (T x B x C), with ``return_all_hiddens``.
        """
        found = self.encoder(src_tokens, return_all_hiddens=return_all_hiddens)
        x = found["encoder_out"][0].transpose(0, 1)
        dtype = self.encoder.autocast_dtype
        if classification_head_name is not None:
            x = in_precision(self.classification_heads[classification_head_name], dtype)(x)
        elif not features_only:
            x = in_precision(self.lm_head, dtype)(x, masked_tokens)
        return x, {"inner_states": found["encoder_states"]}

    def get_normalized_probs(
        self, net_output: tuple[Tensor, Any], log_probs: bool, sample: Any = None
    ) -> Tensor:
        """Return probabilities from the output of ``forward``, or log-probabilities, float32."""
        logits = net_output[0].float()
        return logits.log_softmax(-1) if log_probs else logits.softmax(-1)


register("admin_transformer_mlm", AdminMaskedLanguageModel)
