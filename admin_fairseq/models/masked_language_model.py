"""The registered model ``admin_transformer_mlm``: an encoder alone, for masked LM."""

from __future__ import annotations

from typing import Any, Optional

from fairseq.models import FairseqEncoderModel
from fairseq.models.roberta.model import RobertaLMHead
from fairseq.models.transformer import Embedding
from fairseq.tasks import FairseqTask
from omegaconf import DictConfig
from torch import Tensor

from admin_fairseq.config import resolve, telling_contradictions
from admin_fairseq.fast.precision import in_precision
from admin_fairseq.layers.transformer_stack import TransformerEncoder
from admin_fairseq.models.building import KeepsMode, finish_building, register


class AdminMaskedLanguageModel(KeepsMode, FairseqEncoderModel):
    """Masked language model whose residual connections follow a scheme (--init-type).

    Its encoder is that of ``admin_transformer``, its head that of fairseq's ``roberta``: a linear
    map, the activation function, layer norm, and the embeddings, transposed, with a bias. Unlike
    ``roberta`` it does not draw all weights from BERT's distribution, except with --bert-init.
    """

    encoder: TransformerEncoder
    lm_head: RobertaLMHead

    def __init__(self, encoder: TransformerEncoder, lm_head: RobertaLMHead) -> None:
        super().__init__(encoder)
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
            model = cls(encoder, head)
        finish_building(model, config, task, cfg)
        return model

    def forward(
        self,
        src_tokens: Tensor,
        features_only: bool = False,
        return_all_hiddens: bool = False,
        masked_tokens: Optional[Tensor] = None,
        **unused: Any,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Compute logits for src_tokens (B x T): B x T x V, on padding undefined.

        With ``masked_tokens`` (B x T, boolean) they are those of the K tokens where it is True, K x
        V. With ``features_only`` the encoder's output, B x T x C, is returned in their place. The
        dictionary has the inner states (T x B x C), with ``return_all_hiddens``.
        """
        found = self.encoder(src_tokens, return_all_hiddens=return_all_hiddens)
        x = found["encoder_out"][0].transpose(0, 1)
        if not features_only:
            x = in_precision(self.lm_head, self.encoder.autocast_dtype)(x, masked_tokens)
        return x, {"inner_states": found["encoder_states"]}

    def get_normalized_probs(
        self, net_output: tuple[Tensor, Any], log_probs: bool, sample: Any = None
    ) -> Tensor:
        """Return probabilities from the output of ``forward``, or log-probabilities, float32."""
        logits = net_output[0].float()
        return logits.log_softmax(-1) if log_probs else logits.softmax(-1)


register("admin_transformer_mlm", AdminMaskedLanguageModel)
