"""The table of architectures, the names given to --arch.

Each name combines a family (its prefix: layer-norm placement and default scheme), a model
(translation, language model or masked language model) and a size (the suffix: widths, heads,
layers).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from fairseq.models.transformer import TransformerConfig
from fairseq.models.transformer_lm import TransformerLanguageModelConfig

from admin_fairseq.schemes import Norm, Scheme

TINY = {"embed_dim": 64, "ffn_embed_dim": 128, "attention_heads": 2}
IWSLT = {"embed_dim": 512, "ffn_embed_dim": 1024, "attention_heads": 4}
BASE = {"embed_dim": 512, "ffn_embed_dim": 2048, "attention_heads": 8}
GPT = {"embed_dim": 768, "ffn_embed_dim": 3072, "attention_heads": 12}
BIG = {"embed_dim": 1024, "ffn_embed_dim": 4096, "attention_heads": 16}


@dataclass(frozen=True)
class Model:
    """A model that this plugin registers: fairseq's equivalent of it, and the sizes it comes in."""

    stacks: tuple[str, ...]
    stock: str  # fairseq's model that computes the same once ω is folded in
    options: type  # the options dataclass of fairseq's model
    task: str
    suffix: str  # what the names of its architectures have before the size
    sizes: dict[str, dict[str, Any]]
    # what measures it, with its options
    criterion: tuple[str, ...] = ("label_smoothed_cross_entropy", "--label-smoothing", "0.1")
    further_tasks: tuple[str, ...] = ()  # that train it
    stock_names: tuple[tuple[str, str], ...] = ()  # starts of weights' names: here, in ``stock``


MODELS = {
    "admin_transformer": Model(
        stacks=("encoder", "decoder"),
        stock="transformer",
        options=TransformerConfig,
        task="translation",
        suffix="",
        sizes={
            "": BASE,
            "_tiny": TINY,  # 64-128-2: T-Fixup's ultra-deep study
            "_iwslt_de_en": IWSLT,
            "_wmt_en_de": BASE,
            "_wmt_en_de_big": {**BIG, "dropout": 0.3, "attention_dropout": 0.1},
        },
    ),
    "admin_transformer_lm": Model(
        stacks=("decoder",),
        stock="transformer_lm",
        options=TransformerLanguageModelConfig,
        task="language_modeling",
        suffix="_lm",
        sizes={
            "": BASE,
            "_tiny": TINY,
            "_gpt": {**GPT, "layers": 12, "attention_dropout": 0.1, "activation_fn": "gelu"},
            "_big": {**BIG, "layers": 12},
        },
    ),
    "admin_transformer_mlm": Model(
        stacks=("encoder",),
        stock="roberta",
        options=TransformerConfig,  # those of an encoder; fairseq's roberta has no dataclass
        task="masked_lm",
        suffix="_mlm",
        sizes={
            "": {**BASE, "activation_fn": "gelu"},
            "_tiny": {**TINY, "activation_fn": "gelu"},
            "_base": {**GPT, "layers": 12, "attention_dropout": 0.1, "activation_fn": "gelu"},
        },
        criterion=("masked_lm",),
        further_tasks=("sentence_prediction",),
        stock_names=(("lm_head.", "encoder.lm_head."), ("encoder.", "encoder.sentence_encoder.")),
    ),
}
"""Name of a registered model → its properties."""

KINDS = {**MODELS, **{model.stock: model for model in MODELS.values()}}
"""Name of a model, this plugin's or fairseq's equivalent → its properties, the same for both."""

PER_STACK = {"embed_dim", "ffn_embed_dim", "attention_heads", "layers"}
COMMON = {"layers": 6, "dropout": 0.1, "attention_dropout": 0.0, "activation_fn": "relu"}


@dataclass(frozen=True)
class Family:
    """The architectures with one prefix: their default --init-type and layer-norm placement."""

    init_type: str
    norm: Optional[Norm] = None  # None: where the scheme places it

    def admits(self, scheme: Scheme) -> bool:
        """Return whether --init-type may select ``scheme`` for an architecture of this family."""
        flexible = scheme.norm is Norm.EACH and self.norm in (Norm.POST, Norm.PRE)
        return self.norm is None or scheme.norm is self.norm or flexible


FAMILIES = {
    "admin_transformer": Family("adaptive-auto"),
    "postln_transformer": Family("default", Norm.POST),
    "preln_transformer": Family("default", Norm.PRE),
    "tfixup_transformer": Family("tfixup", Norm.NONE),
    "fixup_transformer": Family("fixup", Norm.NONE),
    "rezero_transformer": Family("rezero", Norm.NONE),
    "subln_transformer": Family("subln", Norm.SUB),
    "b2t_transformer": Family("b2t", Norm.B2T),
    "dlcl_transformer": Family("dlcl", Norm.PRE),
}


@dataclass(frozen=True)
class Architecture:
    """What a name given to --arch stands for: a model, a family and default values of options."""

    model: str
    family: Family
    defaults: dict[str, Any]
    widest: str  # the architecture of this size that accepts every scheme


def _architectures() -> dict[str, Architecture]:
    """Build the table of architectures: every family combined with every size of every model."""
    table = {}
    for model_name, model in MODELS.items():
        for family_name, family in FAMILIES.items():
            for size, values in model.sizes.items():
                end = model.suffix + size
                defaults = {
                    (f"{stack}_{key}" if key in PER_STACK else key): value
                    for key, value in {**COMMON, **values}.items()
                    for stack in model.stacks
                }
                widest = "admin_transformer" + end
                table[family_name + end] = Architecture(model_name, family, defaults, widest)
    return table


ARCHITECTURES = _architectures()
"""Name given to --arch → its model, family and default options."""
