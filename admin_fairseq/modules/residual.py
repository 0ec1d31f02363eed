"""Residual connections: modules that join a sub-layer's input with its branch (attention or FFN).

Shapes: T time, B batch, C channel; everything here is T x B x C, as fairseq's layers have it.
"""

from __future__ import annotations

from typing import Any, Optional

import torch
from fairseq.modules import FairseqDropout
from torch import Tensor, nn

from admin_fairseq.kernels.fused_residual import fuses, residual_norm, sum_and_norm
from admin_fairseq.modules.norms import (
    ScaledLayerNorm,
    at_least_float32,
    layer_norm,
    scaled_weights,
)
from admin_fairseq.repairs.private import is_compiling


class Residual(nn.Module):
    """Base class of residual connections, constructed as ``residual(dim)`` with C = ``dim``.

    A subclass defines ``forward``, and may define ``norm`` and ``sum_and_norm`` to compute joining
    and layer norm together. A subclass that overrides ``forward`` alone gets this class's back,
    because inherited fused ones would still compute the inherited ``forward``.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for fused in ("norm", "sum_and_norm"):
            if _mro_index(cls, "forward") < _mro_index(cls, fused):
                setattr(cls, fused, getattr(Residual, fused))

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        """Join input ``x`` and ``branch`` (both T x B x C), in float32 if the sum needs it."""
        raise NotImplementedError

    def norm(
        self, x: Tensor, branch: Tensor, norm: nn.LayerNorm, dropout: FairseqDropout
    ) -> Tensor:
        """Join x with the branch after dropout and apply the layer norm: T x B x C."""
        return layer_norm(norm, self(x, dropout(branch)))

    def sum_and_norm(
        self, x: Tensor, branch: Tensor, norm: nn.LayerNorm, dropout: FairseqDropout
    ) -> tuple[Tensor, Tensor]:
        """Join x with the branch after dropout; return that, like x, and its layer norm."""
        joined = self(x, dropout(branch)).type_as(x)
        return joined, layer_norm(norm, joined)


def _mro_index(cls: type, method: str) -> int:
    """Return the position, in the ``__mro__`` of ``cls``, of the class that defines ``method``."""
    return next(i for i, parent in enumerate(cls.__mro__) if method in vars(parent))


def _fuses(x: Tensor, branch: Tensor, norm: nn.Module) -> bool:
    """Return whether a kernel computes sum and norm: not where torch.compile fuses them itself."""
    known = type(norm) in (nn.LayerNorm, ScaledLayerNorm)  # another class computes something else
    return known and not is_compiling() and fuses(x, branch)


def _fused_norm(
    residual: Residual,
    omega: Optional[Tensor],
    x: Tensor,
    branch: Tensor,
    norm: nn.LayerNorm,
    dropout: FairseqDropout,
) -> Tensor:
    """Compute ``Residual.norm`` for ω ⊙ x + f (None: ω = 1), in one kernel where possible."""
    if not _fuses(x, branch, norm):
        return Residual.norm(residual, x, branch, norm, dropout)
    return residual_norm(x, branch, omega, *scaled_weights(norm), norm.eps, _probability(dropout))


def _probability(dropout: FairseqDropout) -> float:
    """Return the probability with which ``dropout`` drops now."""
    return dropout.p if dropout.training or dropout.apply_during_inference else 0.0


class PlainResidual(Residual):
    """x + f, without parameters, so that the state dict keeps fairseq's keys."""

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        """Join input ``x`` and ``branch`` (both T x B x C)."""
        return x + branch

    def norm(
        self, x: Tensor, branch: Tensor, norm: nn.LayerNorm, dropout: FairseqDropout
    ) -> Tensor:
        return _fused_norm(self, None, x, branch, norm, dropout)

    def sum_and_norm(
        self, x: Tensor, branch: Tensor, norm: nn.LayerNorm, dropout: FairseqDropout
    ) -> tuple[Tensor, Tensor]:
        if not _fuses(x, branch, norm):
            return super().sum_and_norm(x, branch, norm, dropout)
        return sum_and_norm(x, branch, *scaled_weights(norm), norm.eps, _probability(dropout))


class ScaledResidual(Residual):
    """ω ⊙ x + f with Admin's residual scale ω, a vector of C elements.

    Source: Liu et al. 2020, section 4.3.

    With ``trainable=False`` ω is a buffer and stays as the scheme sets it, as the α of DeepNorm
    (Wang et al. 2022).

    The sum is computed and returned in float32, even if x and f are in half precision: ω grows with
    depth, and ω x may exceed float16's range before layer norm reduces it again.
    """

    omega: Tensor

    def __init__(self, dim: int, trainable: bool = True) -> None:
        super().__init__()
        _hold(self, "omega", torch.ones(dim), trainable)

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        """Join input ``x`` and ``branch`` (both T x B x C) in float32; float64 stays float64."""
        x, branch, omega = (at_least_float32(t) for t in (x, branch, self.omega))
        return torch.addcmul(branch, x, omega)

    def norm(
        self, x: Tensor, branch: Tensor, norm: nn.LayerNorm, dropout: FairseqDropout
    ) -> Tensor:
        return _fused_norm(self, self.omega, x, branch, norm, dropout)

    def extra_repr(self) -> str:
        return f"dim={self.omega.numel()}"


class GatedResidual(Residual):
    """x + α f with one trainable number α.

    α starts at 0 in ReZero (Bachlechner et al. 2020, eq. 1), at 1 in Fixup (Zhang et al. 2019). The
    sum is computed and returned in float32, as in ``ScaledResidual``.
    """

    alpha: Tensor

    def __init__(self, dim: int, start: float = 0.0, trainable: bool = True) -> None:
        super().__init__()
        _hold(self, "alpha", torch.full((1,), start), trainable)

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        """Join input ``x`` and ``branch`` (both T x B x C) in float32; float64 stays float64."""
        x, branch, alpha = (at_least_float32(t) for t in (x, branch, self.alpha))
        return torch.addcmul(x, branch, alpha)


class GrowingResidual(GatedResidual):
    """x + α_t f with α_t = min(1, t/T), T = ``updates`` (BranchNorm; Liu et al. 2023).

    Here t is the number of completed updates: in the first update α is 0, and the branches get no
    gradient, only embeddings, layer norms and the output projection do. α is in the state dict, so
    that a checkpoint translates with the α it was trained with.
    """

    def __init__(self, dim: int, updates: int) -> None:
        super().__init__(dim, trainable=False)
        self.updates = updates

    @torch.no_grad()
    def set_num_updates(self, num_updates: int) -> None:
        """Raise α to its value after ``num_updates`` updates; called by fairseq before each update.

        α never decreases: if a trained model is trained further and updates are counted from 0
        again, its branches keep their weight.
        """
        self.alpha.clamp_(min=min(1.0, num_updates / self.updates))


class Residuals(nn.ModuleDict):
    """The residual connections of a layer, by the names of its sub-layers, which may share one."""

    def upgrade_state_dict_named(self, state_dict: dict[str, Tensor], name: str) -> None:
        """Add ω = 1 and α = 1 to a checkpoint's state that has none, such as one of fairseq's own.

        fairseq calls this before it loads a checkpoint, for a shared module only once.
        """
        for key, factor in self.state_dict().items():
            state_dict.setdefault(f"{name}.{key}", torch.ones_like(factor))


def _hold(module: nn.Module, name: str, value: Tensor, trainable: bool) -> None:
    """Register ``value`` as a parameter if it is trained, otherwise as a buffer.

    A frozen parameter would not do: FullyShardedDataParallel requires that either all parameters of
    a layer are trained or none.
    """
    if trainable:
        module.register_parameter(name, nn.Parameter(value))
    else:
        module.register_buffer(name, value)
