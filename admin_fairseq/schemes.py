"""The table of schemes: how each one places layer norm, joins residuals and draws weights.

To add a scheme, write its formula (formulas.py), an entry here, and a test of its numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Callable

from torch import nn

from admin_fairseq import formulas
from admin_fairseq.initialize import Mirror, Rule, Scale, XavierNormal, XavierUniform, Zero
from admin_fairseq.modules.residual import GatedResidual, PlainResidual, ScaledResidual


class Norm(Enum):
    """Where layer norm stands."""

    POST = "Post-LN"  # LN(x + f(x)) (Vaswani et al. 2017)
    PRE = "Pre-LN"  # x + f(LN(x)), one more LN at the end of a stack (Xiong et al. 2020)
    NONE = "no layer norm"
    EACH = "as --encoder-normalize-before and --decoder-normalize-before say"


class Profile(Enum):
    """Where a scheme takes its ω from before training starts."""

    NONE = "no profile"
    WRITE = "measure, write the file and stop"
    READ = "read the file"
    MEASURE = "measure, write the file and train"


@dataclass(frozen=True)
class Scheme:
    """One row of the table."""

    title: str
    paper: str
    norm: Norm
    residual: Callable[[int], nn.Module] = PlainResidual  # residual(dim), called as (x, branch)
    one_residual_per_layer: bool = False  # shared by the layer's sub-layers
    weights: tuple[Rule, ...] = ()  # on top of BASE_WEIGHTS
    profile: Profile = Profile.NONE
    no_stock_form: str = ""  # why no stock transformer computes the same, if none does


NO_NORM = "it has no layer norm; a stock transformer has one around every sub-layer"

# The published runs draw the FFN with Xavier, as fairseq did until 0.8; today's fairseq leaves it
# at torch's default, whose variance is less than half of it. Attention and embeddings are as in
# fairseq: q, k, v Xavier with gain 1/√2, the output projection Xavier, embeddings N(0, 1/d).
BASE_WEIGHTS = (
    XavierUniform(r"(en|de)coder\.layers\.\d+\.fc[12]\.weight"),
    Zero(r"(en|de)coder\.layers\.\d+\.fc[12]\.bias"),
)

ENCODER, DECODER = r"encoder\.layers\.\d+\.", r"decoder\.layers\.\d+\."
TFIXUP_WEIGHTS = (
    Scale(ENCODER + r"(fc[12]|self_attn\.out_proj)\.weight", formulas.tfixup_encoder),
    Scale(ENCODER + r"self_attn\.v_proj\.weight", formulas.tfixup_encoder_value),
    Scale(r"encoder\.embed_tokens\.weight", formulas.tfixup_encoder_embedding),
    Scale(DECODER + r"(fc[12]|\w+_attn\.out_proj)\.weight", formulas.tfixup_decoder),
    Scale(DECODER + r"\w+_attn\.v_proj\.weight", formulas.tfixup_decoder_value),
    Scale(r"decoder\.embed_tokens\.weight", formulas.tfixup_decoder),
)

DEEPNORM_WEIGHTS = (
    XavierNormal(r"(en|de)coder\.layers\.\d+\.\w+_attn\.[qk]_proj\.weight", formulas.one),
    *(
        XavierNormal(stack + r"(fc[12]|\w+_attn\.(v|out)_proj)\.weight", beta)
        for stack, beta in (
            (ENCODER, formulas.deepnorm_encoder_beta),
            (DECODER, formulas.deepnorm_decoder_beta),
        )
    ),
    Scale(ENCODER + r"residuals\.\w+\.omega", formulas.deepnorm_encoder_alpha),
    Scale(DECODER + r"residuals\.\w+\.omega", formulas.deepnorm_decoder_alpha),
)
# fc1 gives every hidden unit a twin of opposite sign, fc2 weighs it with opposite sign
LOOKS_LINEAR_WEIGHTS = (
    Mirror(r"(en|de)coder\.layers\.\d+\.fc1\.weight", dim=0),
    Mirror(r"(en|de)coder\.layers\.\d+\.fc2\.weight", dim=1),
)


def _admin(profile: Profile) -> Scheme:
    return Scheme(
        f"Admin: {profile.value}", formulas.ADMIN_PAPER, Norm.POST, ScaledResidual, profile=profile
    )


SCHEMES = {
    "default": Scheme("plain residuals", "https://arxiv.org/abs/1706.03762", Norm.EACH),
    "adaptive-profiling": _admin(Profile.WRITE),
    "adaptive": _admin(Profile.READ),
    "adaptive-auto": _admin(Profile.MEASURE),
    "tfixup": Scheme(
        "T-Fixup",
        formulas.TFIXUP_PAPER,
        Norm.NONE,
        weights=TFIXUP_WEIGHTS,
        no_stock_form=NO_NORM,
    ),
    "rezero": Scheme(
        "ReZero",
        formulas.REZERO_PAPER,
        Norm.NONE,
        GatedResidual,
        one_residual_per_layer=True,
        no_stock_form=NO_NORM,
    ),
    "rezero_postln": Scheme(
        "ReZero with Post-LN",
        formulas.REZERO_PAPER,
        Norm.POST,
        GatedResidual,
        one_residual_per_layer=True,
    ),
    "deepnet": Scheme(
        "DeepNorm",
        formulas.DEEPNORM_PAPER,
        Norm.POST,
        partial(ScaledResidual, trainable=False),
        weights=DEEPNORM_WEIGHTS,
    ),
    "looklinear": Scheme(
        "looks-linear FFN",
        formulas.LOOKS_LINEAR_PAPER,
        Norm.POST,
        weights=LOOKS_LINEAR_WEIGHTS,
    ),
}
"""--init-type → scheme."""
