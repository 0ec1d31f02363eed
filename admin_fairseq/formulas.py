"""The mathematics of the schemes (--init-type): pure functions of numbers.

N and M are the numbers of encoder and decoder layers; a language model has N = 0, a masked
language model M = 0. n is the number of sub-layers in one stack: self-attention and FFN in each
encoder layer; self-attention, encoder-decoder attention and FFN in each decoder layer, without the
second in a language model.
"""

from __future__ import annotations

import math
from typing import Any, Callable

Number = Any  # a float; where a square root is given, also a tensor

TRANSFORMER_PAPER = "https://arxiv.org/abs/1706.03762"
ADMIN_PAPER = "https://arxiv.org/abs/2004.08249"
TFIXUP_PAPER = "https://proceedings.mlr.press/v119/huang20f.html"
DEEPNORM_PAPER = "https://arxiv.org/abs/2203.00555"
REZERO_PAPER = "https://arxiv.org/abs/2003.04887"
LOOKS_LINEAR_PAPER = "https://arxiv.org/abs/1702.08591"
DSINIT_PAPER = "https://arxiv.org/abs/1908.11365"
LIPSCHITZ_PAPER = "https://arxiv.org/abs/1911.03179"
FIXUP_PAPER = "https://arxiv.org/abs/1901.09321"
DLCL_PAPER = "https://arxiv.org/abs/1906.01787"
BRANCHNORM_PAPER = "https://arxiv.org/abs/2305.02790"
SUBLN_PAPER = "https://arxiv.org/abs/2210.06423"
B2T_PAPER = "https://arxiv.org/abs/2206.00330"
LNS_PAPER = "https://arxiv.org/abs/2502.05795"
PERILN_PAPER = "https://arxiv.org/abs/2502.02732"
RESIDUAL_PAPER = "https://arxiv.org/abs/2304.14802"
KEEL_PAPER = "https://arxiv.org/abs/2601.19895"
DYT_PAPER = "https://arxiv.org/abs/2503.10622"
NORMFORMER_PAPER = "https://arxiv.org/abs/2110.09456"
COMPLETEP_PAPER = "https://arxiv.org/abs/2505.01618"

# the authors' own code, with which tests/authors compares a scheme
ADMIN_CODE = "LiyuanLucasLiu/Transformer-Clinic at 70f72b7"
ADMIN_TORCH_CODE = "microsoft/admin-torch at 08b6605"
TFIXUP_CODE = "layer6ai-labs/T-Fixup at b17e166"
FIXUP_CODE = "hongyi-zhang/Fixup at f3fa449"
TORCHSCALE_CODE = "microsoft/torchscale at 4d1e0e8"
B2T_CODE = "takase/b2t_connection at c8e2ad4"
DLCL_CODE = "wangqiangneu/dlcl at c632ee2"
LIPSCHITZ_CODE = "hfxunlp/transformer at 635c75c"
DSINIT_CODE = "bzhangGo/zero at d97e2c2"
LNS_CODE = "lmsdss/LayerNorm-Scaling at 3ac54dd"
RESIDUAL_CODE = "microsoft/ResiDual at 8682f75"
DYT_CODE = "jiachenzhu/DyT at aab5dde"
COMPLETEP_CODE = "EleutherAI/nanoGPT-mup at 6f8bc3b"

Formula = Callable[[int, int], float]
"""A function of the depths (N encoder layers, M decoder layers) that returns a number."""


def encoder_sublayers(encoder_layers: int, decoder_layers: int) -> int:
    """Return 2N, the number n of sub-layers in the encoder."""
    return 2 * encoder_layers


def decoder_sublayers(encoder_layers: int, decoder_layers: int) -> int:
    """Return the number n of sub-layers in the decoder: 3M with an encoder, 2M without."""
    return (3 if encoder_layers else 2) * decoder_layers


def in_encoder(of_sublayers: Callable[[int], float]) -> Formula:
    """Turn a function of n into a formula of (N, M) that uses the encoder's n = 2N."""
    return lambda *layers: of_sublayers(encoder_sublayers(*layers))


def in_decoder(of_sublayers: Callable[[int], float]) -> Formula:
    """Turn a function of n into a formula of (N, M) that uses the decoder's n (3M or 2M)."""
    return lambda *layers: of_sublayers(decoder_sublayers(*layers))


def one(encoder_layers: int, decoder_layers: int) -> float:
    """Return 1 at any depth, for example as the gain of query and key weights."""
    return 1.0


def admin_next_omega(
    omega: Number,
    input_variance: Number,
    branch_variance: Number,
    sqrt: Callable[[Number], Number] = math.sqrt,
) -> Number:
    """Return Admin's residual scale ω of the next sub-layer.

    ω_{i+1} = sqrt(ω_i² Var[x_{i-1}] + Var[f_i(x_{i-1})]) with ω_1 = 1, from this sub-layer's ω_i
    and the variances of its input and of its branch. After a Post-LN layer Var[x] ≈ 1, which makes
    it the paper's ω_i = sqrt(Σ_{j<i} Var f_j), where j = 0 is the embedding. Source: Liu et al.
    2020 (Admin), section 4.3, in the recursive form of the paper's release. ``sqrt`` is torch's for
    tensors.
    """
    return sqrt(omega**2 * input_variance + branch_variance)


def tfixup_encoder(encoder_layers: int, decoder_layers: int) -> float:
    """Return 0.67 N^(-1/4), T-Fixup's factor for FFN and attention output weights of the encoder.

    Source: T-Fixup, section 3.3. It does not depend on M, and holds for an encoder alone too: with
    the embeddings' (9N)^(-1/4), the sum in ``tfixup_decoder`` is 1 over the encoder's own branches.
    """
    return 0.67 * encoder_layers**-0.25


def tfixup_encoder_value(encoder_layers: int, decoder_layers: int) -> float:
    """Return √2 · 0.67 N^(-1/4), T-Fixup's factor for the encoder's value weights.

    The factor √2 undoes the gain 1/√2 with which fairseq's attention draws them.
    """
    return math.sqrt(2) * tfixup_encoder(encoder_layers, decoder_layers)


def tfixup_encoder_embedding(encoder_layers: int, decoder_layers: int) -> float:
    """Return (9N)^(-1/4), T-Fixup's factor for the encoder's embeddings (section 3.3)."""
    return (9 * encoder_layers) ** -0.25


def tfixup_decoder(encoder_layers: int, decoder_layers: int) -> float:
    """Return (9M)^(-1/4) = (3n)^(-1/4), T-Fixup's factor in the decoder.

    It applies to FFN weights, attention output weights and embeddings. Source: T-Fixup, section
    3.3. Each branch contributes v²w² + v²x² + w²x² for value weights v, output weights w and
    embeddings x, and the contributions of the n branches must sum to 1; with v = w = x, 3n v⁴ = 1.
    Without an encoder, n = 2M gives (6M)^(-1/4), which this project derived. (The encoder's 0.67
    follows likewise: with x = (9N)^(-1/4) the sum gives 0.6696.)
    """
    return (3 * decoder_sublayers(encoder_layers, decoder_layers)) ** -0.25


def tfixup_decoder_value(encoder_layers: int, decoder_layers: int) -> float:
    """Return √2 (9M)^(-1/4), T-Fixup's factor for the decoder's value weights.

    The factor √2 undoes the gain 1/√2 with which fairseq's attention draws them. (In attention to
    an encoder of another width the gain is 1; the authors' code does not know such models.)
    """
    return math.sqrt(2) * tfixup_decoder(encoder_layers, decoder_layers)


def deepnorm_encoder_alpha(encoder_layers: int, decoder_layers: int) -> float:
    """Return α = 0.81 (N⁴M)^(1/16), DeepNorm's factor of the residual input in the encoder.

    Without a decoder it is (2N)^(1/4). Source: DeepNorm, figure 2.
    """
    if not decoder_layers:
        return encoder_sublayers(encoder_layers, decoder_layers) ** (1 / 4)
    return 0.81 * (encoder_layers**4 * decoder_layers) ** (1 / 16)


def deepnorm_encoder_beta(encoder_layers: int, decoder_layers: int) -> float:
    """Return β = 0.87 (N⁴M)^(-1/16), DeepNorm's gain of the encoder's weights (figure 2).

    Without a decoder it is (8N)^(-1/4). It is 1/(√2 α), as β is everywhere in the figure. The code
    of DeepNorm's authors (torchscale) has 1.15 in place of 0.87; the code of the Admin release,
    with which admin-torch was compared, has 0.87.
    """
    if not decoder_layers:
        return (4 * encoder_sublayers(encoder_layers, decoder_layers)) ** (-1 / 4)
    return 0.87 * (encoder_layers**4 * decoder_layers) ** (-1 / 16)


def deepnorm_decoder_alpha(encoder_layers: int, decoder_layers: int) -> float:
    """Return α = (3M)^(1/4), DeepNorm's factor of the residual input in the decoder.

    Without an encoder it is (2M)^(1/4). Source: DeepNorm, figure 2; both are n^(1/4).
    """
    return decoder_sublayers(encoder_layers, decoder_layers) ** (1 / 4)


def deepnorm_decoder_beta(encoder_layers: int, decoder_layers: int) -> float:
    """Return β = (12M)^(-1/4), DeepNorm's gain of the decoder's weights.

    Without an encoder it is (8M)^(-1/4). Source: DeepNorm, figure 2; both are (4n)^(-1/4).
    """
    return (4 * decoder_sublayers(encoder_layers, decoder_layers)) ** (-1 / 4)


ADMIN_TORCH: dict[str, Callable[[int], float]] = {
    "O(logn)": lambda n: math.sqrt((n + 1) / math.log(n + 1) - 1),
    "O(1)": math.sqrt,
    "O(n)": lambda n: 1.0,
}
"""--output-change-scale → a function from n to ω, the residual scale of a stack's n sub-layers.

The keys say how the effect of a small change of the weights grows with depth. Source: admin-torch,
the package in which the author of Admin (Liu et al. 2020) later replaced the profile (measured
per-layer variances). With branches of variance 1, the effect through n branches is bounded by Σ
1/(1 + ω²): ln n at ω² = n / ln n, 1 at ω² = n.
"""


def dsinit_bound(fan_out: int, fan_in: int, layer: int) -> float:
    """Return γ/√l, the bound of DS-Init's uniform distribution U(-γ/√l, γ/√l) in ``layer`` l.

    l counts from 1, and γ = sqrt(6 / (fan_in + fan_out)) is Xavier's bound. Source: Zhang et al.
    2019 (DS-Init), with its factor α = 1. Their code has γ l^(-1/4), because TensorFlow applies
    their scale 1/√l to the variance; it stores queries, keys and values of self-attention as one
    matrix, whose γ is 1/√2 of the one here. Checked against the paper's argument: a branch of
    variance v makes Post-LN divide the gradient by sqrt(1 + v). L layers divide it by 2^(L/2) with
    Xavier's v = 1, and by sqrt(Π (1 + 1/l)) = sqrt(L + 1) with v = 1/l.
    """
    return math.sqrt(6 / (fan_in + fan_out)) / math.sqrt(layer)


def lipschitz_bound(fan_out: int, fan_in: int, layer: int) -> float:
    """Return sqrt(1 / fan_in), the bound of a linear map's uniform distribution in any layer.

    Source: Xu et al. 2020 (Lipschitz-constrained initialisation), whose own Post-LN model also
    normalises the sum of embeddings and positions (--layernorm-embedding). Checked against the
    paper's argument: weights of variance 1/(3 fan_in) give an output with a third of the input's
    mean square, so that no map amplifies its input. For a square map it is Xavier's bound divided
    by √3.
    """
    return math.sqrt(1 / fan_in)


def lipschitz_embedding_bound(vocabulary: int, dim: int, layer: int) -> float:
    """Return sqrt(2 / (d + V)), the bound of the embeddings' uniform distribution.

    d is their dimension, V the size of the vocabulary. Source: Xu et al. 2020
    (Lipschitz-constrained initialisation). As for square maps, this is Xavier's bound, sqrt(6 / (d
    + V)), divided by √3.
    """
    return math.sqrt(2 / (dim + vocabulary))


def fixup_branches(encoder_layers: int, decoder_layers: int) -> int:
    """Return L = 2N + 3M, the number of branches in a model; 2M or 2N with one stack alone."""
    layers = encoder_layers, decoder_layers
    return encoder_sublayers(*layers) + decoder_sublayers(*layers)


def fixup_attention(encoder_layers: int, decoder_layers: int) -> float:
    """Return L^(-1/6), Fixup's factor for query, key and value weights of self-attention.

    L is the number of branches (``fixup_branches``). Source: the code of Zhang, Dauphin and Ma 2019
    (Fixup). It is the paper's L^(-1/(2m-2)), see ``fixup_ffn``, with the m = 4 maps of an
    attention: queries, keys, values, output.
    """
    return fixup_branches(encoder_layers, decoder_layers) ** (-1 / 6)


def fixup_encoder_attention(encoder_layers: int, decoder_layers: int) -> float:
    """Return 12^(-1/6), Fixup's factor for query, key and value weights of encoder attention.

    It is the same at any depth. Source: the code of Zhang, Dauphin and Ma 2019 (Fixup), which does
    not pass the number of branches L to this attention, so that a default of 12 applies, also in
    the published runs with L = 30.
    """
    return 12 ** (-1 / 6)


def fixup_ffn(encoder_layers: int, decoder_layers: int) -> float:
    """Return L^(-1/2), Fixup's factor for the first linear map of an FFN.

    L is the number of branches (``fixup_branches``). Source: Zhang, Dauphin and Ma 2019 (Fixup),
    and their code. Checked against the paper's argument: the last of a branch's m maps starts at
    zero, so a step of size η changes the branch by η s^(2(m-1)) if the other maps have magnitude s.
    All L branches together should change by η, hence s = L^(-1/(2m-2)). An FFN has m = 2.
    """
    return fixup_branches(encoder_layers, decoder_layers) ** -0.5


def b2t_encoder(encoder_layers: int, decoder_layers: int) -> float:
    """Return N^(-1/2), B2T's factor for every weight matrix of an encoder layer.

    Source: the code of Takase et al. 2022 (B2T), used in all their published runs; the paper does
    not mention it.
    """
    return encoder_layers**-0.5


def b2t_decoder(encoder_layers: int, decoder_layers: int) -> float:
    """Return M^(-1/2), B2T's factor for every weight matrix of a decoder layer.

    Its source is that of ``b2t_encoder``.
    """
    return decoder_layers**-0.5


def subln_encoder_gain(encoder_layers: int, decoder_layers: int) -> float:
    """Return γ = sqrt(⅓ ln 3M · ln 2N), Sub-LN's gain of encoder weights.

    Without a decoder it is sqrt(ln 2N), that is sqrt(ln n). Source: Wang et al. 2022 (Foundation
    Transformers), by the argument of ``subln_decoder_gain``: the encoder's change, ln 2N / γ²,
    reaches one in three of the decoder's 3M sub-layers.
    """
    if not decoder_layers:
        return math.sqrt(math.log(encoder_sublayers(encoder_layers, decoder_layers)))
    return math.sqrt(math.log(3 * decoder_layers) * math.log(2 * encoder_layers) / 3)


def subln_decoder_gain(encoder_layers: int, decoder_layers: int) -> float:
    """Return γ = sqrt(ln 3M), Sub-LN's gain of decoder weights; sqrt(ln 2M) without an encoder.

    Both are sqrt(ln n). Source: Wang et al. 2022 (Foundation Transformers). Checked against the
    paper's argument: branch i has 1/i of the variance of a Pre-LN residual stream, and an update
    changes weights of magnitude γ by a relative 1/γ. The n branches together change the stream by Σ
    (1/i) / γ² ≈ ln n / γ², which γ² = ln n keeps at 1 at any depth. The authors' code (torchscale)
    does not scale attention to the encoder, although the 3M include this attention.
    """
    return math.sqrt(math.log(decoder_sublayers(encoder_layers, decoder_layers)))


def lns_factor(layer: int) -> float:
    """Return 1/√l, LayerNorm Scaling's factor for the outputs of the layer norms in ``layer`` l.

    l counts from 1 in each stack. Source: Sun et al. 2025 (The Curse of Depth), eq. 4, and their
    code. Checked against the paper's argument: in Pre-LN the stream's variance grows by one branch
    in every sub-layer, so that deep layers hardly change it and come close to the identity. With
    1/√l the branches' variances fall as 1/l, and the stream's grows as ln l only. The paper has
    language models alone; that encoder and decoder count their layers separately, and that queries
    of attention to the encoder are scaled but its keys and values are not, is ours.
    """
    return layer**-0.5


def keel_decoder_alpha(encoder_layers: int, decoder_layers: int) -> float:
    """Return α = n, KEEL's factor of the residual input in a decoder.

    Its source is that of ``keel_encoder_alpha``.
    """
    return float(decoder_sublayers(encoder_layers, decoder_layers))


def keel_encoder_alpha(encoder_layers: int, decoder_layers: int) -> float:
    """Return α = n = 2N, KEEL's factor of the residual input in an encoder.

    Source: the paper of KEEL (2026) as third-party code implements it; the authors have published
    none. Checked against the paper's argument: for inputs and branches of variance 1, layer norm
    passes α/√(α² + 1) of the gradient down the shortcut, and n sub-layers pass (1 + 1/n²)^(-n/2) ≈
    1 - 1/(2n) of it, against 2^(-n/2) in Post-LN.
    """
    return float(encoder_sublayers(encoder_layers, decoder_layers))


def keel_third_alpha(encoder_layers: int, decoder_layers: int) -> float:
    """Return KEEL's α of the FFN in a decoder's first layer: n beside an encoder, 1 without.

    A stack's first two sub-layers have α = 1. With attention to the encoder the FFN is the third
    sub-layer, whose input is normalised as that of all later ones; this reading is ours.
    """
    return keel_decoder_alpha(encoder_layers, decoder_layers) if encoder_layers else 1.0


def depth_multiplier(layers: int, base_layers: int, exponent: float) -> float:
    """Return m^(-a) with m = layers / base_layers, the factor of all branches of a stack.

    The exponent a is 1 in CompleteP (Dey et al. 2025, table 1), 1/2 in depth-µP (Yang et al. 2023).
    At the base depth it is 1 and the model is Pre-LN; a shallower model has a factor above 1. That
    each stack has a multiplier of its own is ours; the paper has language models alone.
    """
    return (layers / base_layers) ** -exponent
