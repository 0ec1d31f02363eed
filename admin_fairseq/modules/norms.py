"""What schemes put in place of fairseq's layer norm, and how layers apply any of them.

Shapes: T time, B batch, C channel; everything here is T x B x C, as fairseq's layers have it.
"""

from __future__ import annotations

import re
from typing import Any, Callable, cast

import torch
import torch.nn.functional as F
from fairseq.modules import LayerNorm
from torch import Tensor, nn

FAIRSEQS_NORMS = (nn.LayerNorm, type(LayerNorm(1)))
"""fairseq's layer norm is torch's, or apex's where that is installed and there is a GPU."""


def layer_norm(norm: Any, x: Tensor) -> Tensor:
    """Apply ``norm`` to ``x`` in the higher precision of the two; return it in that of ``norm``.

    So a sum that a residual connection left in float32 is normalised in float32 before it returns
    to half precision; and a branch in half precision (--autocast, --amp) does not round γ, which is
    in float32, nor its gradient. fairseq's layer norm needs help there; other modules take x as it
    is.
    """
    if type(norm) not in FAIRSEQS_NORMS or x.dtype == norm.weight.dtype:
        return norm(x)
    x = x.to(torch.promote_types(x.dtype, norm.weight.dtype))
    weight, bias = norm.weight.type_as(x), norm.bias.type_as(x)
    return F.layer_norm(x, norm.normalized_shape, weight, bias, norm.eps).type_as(norm.weight)


class ScaledLayerNorm(nn.LayerNorm):
    """c · LN(x) with a constant number c, the buffer ``scale``, which starts at 1.

    LayerNorm Scaling (Sun et al. 2025, eq. 4) sets c = 1/√l in layer l. It multiplies the norm's
    output instead of starting γ at c: under Adam that γ would move √l times as fast in proportion.
    """

    scale: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.register_buffer("scale", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (T x B x C) in the precision in which ``layer_norm`` does."""
        x = x.to(torch.promote_types(x.dtype, self.weight.dtype))
        weight, bias = (p.type_as(x) * self.scale.type_as(x) for p in (self.weight, self.bias))
        normed = F.layer_norm(x, self.normalized_shape, weight, bias, self.eps)
        return normed.type_as(self.weight)

    def upgrade_state_dict_named(self, state_dict: dict[str, Tensor], name: str) -> None:
        """Add c = 1 to a checkpoint's state that has none, such as one of fairseq's Pre-LN model.

        fairseq calls this before it loads a checkpoint.
        """
        state_dict.setdefault(f"{name}.scale", torch.ones_like(self.scale))


def scaled_weights(norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
    """Return γ and b of a layer norm, multiplied by its scale, if it has one (C elements each)."""
    if isinstance(norm, ScaledLayerNorm):
        return norm.weight * norm.scale, norm.bias * norm.scale
    return norm.weight, norm.bias


class DynamicTanh(nn.Module):
    """γ ⊙ tanh(αx) + b with one trainable number α, in place of layer norm (DyT; Zhu et al. 2025).

    It needs no statistics of x, so that its output is the same in training and evaluation. γ and b
    have C elements and start at 1 and 0; α starts at ``alpha``.
    """

    def __init__(self, dim: int, alpha: float) -> None:
        super().__init__()
        self.alpha = nn.Parameter(
            torch.full((1,), float(alpha))
        )  # not 0-dimensional: FSDP flattens it
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Bound x (T x B x C) in its precision, as ``layer_norm`` does."""
        bounded = torch.addcmul(self.bias, self.weight, self.bounded(x))
        return bounded.type_as(self.weight)

    def bounded(self, x: Tensor) -> Tensor:
        """Return tanh(αx), T x B x C."""
        return torch.tanh(self.alpha * x)


class DynamicErf(DynamicTanh):
    """γ ⊙ erf(αx + s) + b with trainable α and s (Derf; Chen et al. 2025). s starts at 0."""

    def __init__(self, dim: int, alpha: float) -> None:
        super().__init__(dim, alpha)
        self.shift = nn.Parameter(torch.zeros(1))

    def bounded(self, x: Tensor) -> Tensor:
        """Return erf(αx + s), T x B x C."""
        return torch.erf(self.alpha * x + self.shift)


def at_least_float32(tensor: Tensor) -> Tensor:
    """Convert a tensor in half precision to float32; return any other unchanged."""
    return tensor.float() if tensor.element_size() < 4 else tensor


def replace_norms(module: nn.Module, pattern: str, build: Callable[[int], nn.Module]) -> None:
    """Replace each layer norm of ``module`` whose name matches ``pattern`` by ``build(C)``."""
    for name, child in list(module.named_children()):
        if re.fullmatch(pattern, name):
            setattr(module, name, build(len(cast(Tensor, child.weight))))
