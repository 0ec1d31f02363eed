"""The schemes' mathematics: pure functions of numbers.

N and M are the numbers of encoder and decoder layers; sub-layers are counted inside one stack
(encoder: self-attention, FFN; decoder: self-attention, encoder-decoder attention, FFN).
"""

from __future__ import annotations

import math

ADMIN_PAPER = "https://arxiv.org/abs/2004.08249"
TFIXUP_PAPER = "https://proceedings.mlr.press/v119/huang20f.html"
DEEPNORM_PAPER = "https://arxiv.org/abs/2203.00555"
REZERO_PAPER = "https://arxiv.org/abs/2003.04887"
LOOKS_LINEAR_PAPER = "https://arxiv.org/abs/1702.08591"


def admin_next_omega(omega: float, input_variance: float, branch_variance: float) -> float:
    """ω of the sub-layer that follows one with this ω, input and residual branch.

    ω_{i+1} = sqrt(ω_i² Var[x_{i-1}] + Var[f_i(x_{i-1})]), with ω_1 = 1. After a Post-LN layer
    Var[x] ≈ 1, which makes it the paper's ω_i = sqrt(Σ_{j<i} Var f_j), the embedding being j = 0.
    Source: Liu et al. 2020 (Admin), section 4.3, in the running form of its release.
    """
    return math.sqrt(omega**2 * input_variance + branch_variance)


def tfixup_encoder(encoder_layers: int, decoder_layers: int) -> float:
    """0.67 N^(-1/4): FFN and attention output weights of the encoder (T-Fixup, section 3.3)."""
    return 0.67 * encoder_layers**-0.25


def tfixup_encoder_value(encoder_layers: int, decoder_layers: int) -> float:
    """√2 · 0.67 N^(-1/4): value weights; √2 undoes the gain 1/√2 of fairseq's attention."""
    return math.sqrt(2) * tfixup_encoder(encoder_layers, decoder_layers)


def tfixup_encoder_embedding(encoder_layers: int, decoder_layers: int) -> float:
    """(9N)^(-1/4): embeddings of the encoder (T-Fixup, section 3.3)."""
    return (9 * encoder_layers) ** -0.25


def tfixup_decoder(encoder_layers: int, decoder_layers: int) -> float:
    """(9M)^(-1/4): FFN, attention output, embeddings of the decoder (T-Fixup, section 3.3)."""
    return (9 * decoder_layers) ** -0.25


def tfixup_decoder_value(encoder_layers: int, decoder_layers: int) -> float:
    """√2 (9M)^(-1/4): value weights; √2 undoes the gain 1/√2 of fairseq's attention."""
    return math.sqrt(2) * tfixup_decoder(encoder_layers, decoder_layers)


def deepnorm_encoder_alpha(encoder_layers: int, decoder_layers: int) -> float:
    """α = 0.81 (N⁴M)^(1/16) on the encoder's residual connections (DeepNorm, figure 2)."""
    return 0.81 * (encoder_layers**4 * decoder_layers) ** (1 / 16)


def deepnorm_encoder_beta(encoder_layers: int, decoder_layers: int) -> float:
    """β = 0.87 (N⁴M)^(-1/16): gain of the encoder's weights (DeepNorm, figure 2)."""
    return 0.87 * (encoder_layers**4 * decoder_layers) ** (-1 / 16)


def deepnorm_decoder_alpha(encoder_layers: int, decoder_layers: int) -> float:
    """α = (3M)^(1/4) on the decoder's residual connections (DeepNorm, figure 2)."""
    return (3 * decoder_layers) ** (1 / 4)


def deepnorm_decoder_beta(encoder_layers: int, decoder_layers: int) -> float:
    """β = (12M)^(-1/4): gain of the decoder's weights (DeepNorm, figure 2)."""
    return (12 * decoder_layers) ** (-1 / 4)


def one(encoder_layers: int, decoder_layers: int) -> float:
    """1 at any depth: the gain of DeepNorm's query and key weights."""
    return 1.0
