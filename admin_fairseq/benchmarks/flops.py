"""Count the floating-point operations of a training step, and list peak rates of GPUs.

Counted are the matrix products that the mathematics needs, whatever else an implementation does
(recomputation, padding). A product of m x k and k x n takes 2·m·k·n operations, and its backward
pass twice as many as the forward pass, which gives the well-known 6·parameters·tokens (Kaplan et
al. 2020, https://arxiv.org/abs/2001.08361, section 2.1) and 12·d·T·S for the two products of an
attention of T queries to S keys (Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311, appendix
B). Parameters here are the entries of matrices that multiply tokens: the output projection, but not
embeddings, which are looked up. As in the papers, a causal mask does not halve attention.

Shapes: B sentences of S source and T target tokens, without padding; C, F: widths of the model and
of its feed-forward networks; V: entries of the target dictionary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from fairseq.data import Dictionary

from admin_fairseq.fairseq_runs import Batch

DENSE_HALF = {
    "V100": 125,  # NVIDIA V100 data sheet: SXM2, tensor cores, float16 alone
    "V100 PCIE": 112,  # the same: PCIe
    "T4": 65,  # NVIDIA T4 data sheet: float16 alone
    "A100": 312,  # NVIDIA A100 data sheet: bfloat16 and float16, without sparsity
    "A10": 125,  # NVIDIA A10 data sheet, without sparsity
    "L4": 121,  # NVIDIA L4 data sheet: half of the 242 with sparsity
    "L40S": 362,  # NVIDIA L40S data sheet, without sparsity
    "H100": 989,  # NVIDIA H100 data sheet: SXM, half of the 1,979 with sparsity
    "H100 PCIe": 756,  # the same: PCIe, half of the 1,513 with sparsity
    "H100 NVL": 835,  # the same: NVL, half of the 1,671 with sparsity
    "H200": 989,  # NVIDIA H200 data sheet: SXM, half of the 1,979 with sparsity
    "H200 NVL": 835,  # the same: NVL, half of the 1,671 with sparsity
}
"""Device → 10^12 operations per second of dense half-precision matrix products (tensor cores)."""


def peak_of_device(name: str) -> Optional[float]:
    """Look up a GPU's peak rate (half-precision operations per second) by its name.

    The longest matching name in ``DENSE_HALF`` decides. Returns None if no name matches, and for a
    part of a GPU (MIG), whose rate is not in the table.
    """
    words = set(name.lower().replace("-", " ").split())
    if "mig" in words:
        return None
    known = [device for device in DENSE_HALF if set(device.lower().split()) <= words]
    return DENSE_HALF[max(known, key=len)] * 1e12 if known else None


@dataclass(frozen=True)
class Tokens:
    """Numbers of tokens and token pairs in a batch, summed over its sentences, without padding."""

    source: int  # Σ S
    target: int  # Σ T
    source_source: int  # Σ S²
    target_target: int  # Σ T²
    target_source: int  # Σ T·S

    @classmethod
    def of(cls, batch: Batch, source: Dictionary, target: Dictionary) -> Tokens:
        """Count the tokens of ``batch``; both dictionaries are needed to find the padding."""
        s = batch["net_input"]["src_tokens"].ne(source.pad()).sum(1)
        t = batch["net_input"]["prev_output_tokens"].ne(target.pad()).sum(1)
        sums = (s.sum(), t.sum(), (s * s).sum(), (t * t).sum(), (t * s).sum())
        return cls(*(int(one) for one in sums))


def training_flops(model: Any, types: int, tokens: Tokens) -> int:
    """Return the operations of one update: its matrix products, forward and backward.

    ``model`` holds the options of an encoder-decoder, ``types`` is V. Per layer: self-attention has
    4·C² parameters, the feed-forward network 2·C·F; a decoder's attention to the encoder has 2·C²
    for queries and output, and 2·C·C_encoder for keys and values, which multiply source tokens.
    """
    c, f, n = model.encoder_embed_dim, model.encoder_ffn_embed_dim, model.encoder_layers
    products = n * (4 * c * c + 2 * c * f) * tokens.source
    attention = n * c * tokens.source_source
    d, g, m = model.decoder_embed_dim, model.decoder_ffn_embed_dim, model.decoder_layers
    products += m * (6 * d * d + 2 * d * g) * tokens.target + m * 2 * d * c * tokens.source
    products += d * types * tokens.target
    attention += m * d * (tokens.target_target + tokens.target_source)
    return 6 * products + 12 * attention
