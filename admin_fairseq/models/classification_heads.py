"""Classification heads on an encoder, for fairseq's task ``sentence_prediction``."""

from __future__ import annotations

import logging
from typing import Optional

from fairseq.models import FairseqEncoderModel
from fairseq.models.roberta.model import RobertaClassificationHead
from torch import Tensor, nn

from admin_fairseq.config import PluginOptions
from admin_fairseq.errors import AdminError
from admin_fairseq.layers.transformer_stack import TransformerEncoder

logger = logging.getLogger(__name__)
Sizes = dict[str, tuple[int, ...]]
HEADS = "classification_heads"


class EncoderWithHeads(FairseqEncoderModel):
    """An encoder with classification heads, those of fairseq's ``roberta``, by name.

    A head maps B x T x C to B x classes, from the first token. The task adds its head to a finished
    model, whatever the checkpoint holds, so that both may have other heads:
    ``upgrade_state_dict_named``, which fairseq calls before it loads weights, makes them alike.
    """

    def __init__(self, encoder: TransformerEncoder, config: PluginOptions) -> None:
        super().__init__(encoder)
        self.args = config  # fairseq 0.12.2 reads it under this name
        self.classification_heads = nn.ModuleDict()

    def register_classification_head(
        self, name: str, num_classes: int, inner_dim: Optional[int] = None
    ) -> None:
        """Add a head, newly initialised; ``inner_dim`` is the encoder's width by default.

        Raises AdminError for a name that torch cannot give a module.
        """
        heads = self.classification_heads
        if not name or "." in name or (name not in heads and hasattr(heads, name)):
            raise AdminError(f"--classification-head-name {name}: choose another name")
        width = self.args.encoder_embed_dim
        head = RobertaClassificationHead(
            width,
            inner_dim or width,
            num_classes,
            self.args.pooler_activation_fn,
            self.args.pooler_dropout,
        )
        self.classification_heads[name] = head.to(next(self.encoder.parameters()))

    def upgrade_state_dict_named(self, state_dict: dict[str, Tensor], name: str) -> None:
        """Remove heads that do not fit from ``state_dict``, and add those it lacks; log both."""
        super().upgrade_state_dict_named(state_dict, name)
        start = f"{name}.{HEADS}.".lstrip(".")
        for head, sizes in _sizes(state_dict, start).items():
            self._register_if_asked(head, sizes)
            if sizes != self._head_sizes().get(head):
                logger.warning("left out the checkpoint's classification head %s", head)
                for key in sizes:
                    del state_dict[f"{start}{head}.{key}"]
        for head in self._head_sizes().keys() - _sizes(state_dict, start).keys():
            logger.info("classification head %s is new", head)
        for key, weight in self.classification_heads.state_dict().items():
            state_dict.setdefault(start + key, weight)

    def _register_if_asked(self, head: str, sizes: Sizes) -> None:
        """Add a head with these ``sizes`` for --load-checkpoint-heads, if its name is free."""
        asked = self.args.load_checkpoint_heads and not hasattr(self.classification_heads, head)
        outputs = sizes.get("out_proj.weight", ())  # classes x inner dimension
        if asked and len(outputs) == 2:
            self.register_classification_head(head, *outputs)

    def _head_sizes(self) -> dict[str, Sizes]:
        return _sizes(self.classification_heads.state_dict(), "")


def _sizes(weights: dict[str, Tensor], start: str) -> dict[str, Sizes]:
    """Return the sizes of the weights of each head in ``weights``, whose names have this start."""
    found: dict[str, Sizes] = {}
    for key, weight in weights.items():
        if key.startswith(start):
            head, _, rest = key[len(start) :].partition(".")
            found.setdefault(head, {})[rest] = tuple(weight.shape)
    return found
