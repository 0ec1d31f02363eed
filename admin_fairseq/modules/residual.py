"""Residual connections: modules that join a sub-layer's input and its branch.

Those that do nothing but scale x by ω (``scales_x_alone``; None: by 1) can be computed together
with dropout and layer norm (fused_residual.py).

Shapes: T time, B batch, C channel; everything here is T x B x C, as fairseq's layers have it.
"""

import torch
from torch import Tensor, nn


class PlainResidual(nn.Module):
    """x + f: no parameters, so that the state dict keeps fairseq's keys."""

    scales_x_alone = True
    omega = None

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        """Join input ``x`` and ``branch`` (both T x B x C)."""
        return x + branch


class ScaledResidual(nn.Module):
    """ω ⊙ x + f with a vector ω of C elements (Admin; Liu et al. 2020, section 4.3).

    ``trainable=False`` keeps ω as the scheme sets it, in a buffer: the α of DeepNorm (Wang et al.
    2022).

    The sum is taken in float32 and left in float32, also where x and f are in half precision: ω
    grows with depth, and ω x may pass float16's largest value before layer norm shrinks it again.
    """

    scales_x_alone = True

    def __init__(self, dim: int, trainable: bool = True) -> None:
        super().__init__()
        _hold(self, "omega", torch.ones(dim), trainable)

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        """Join input ``x`` and ``branch`` (both T x B x C); float64 stays float64."""
        x, branch, omega = (_at_least_float32(t) for t in (x, branch, self.omega))
        return torch.addcmul(branch, x, omega)

    def upgrade_state_dict_named(self, state_dict: dict[str, Tensor], name: str) -> None:
        """fairseq calls this before loading: a stock Post-LN checkpoint has no ω, so it is 1."""
        state_dict.setdefault(f"{name}.omega", torch.ones_like(self.omega))

    def extra_repr(self) -> str:
        return f"dim={self.omega.numel()}"


class GatedResidual(nn.Module):
    """x + α f with one trainable number α.

    It starts at 0 in ReZero (Bachlechner et al. 2020, eq. 1), at 1 in Fixup (Zhang et al. 2019).
    The sum is taken in float32 and left in float32, as in ``ScaledResidual``.
    """

    scales_x_alone = False

    def __init__(self, dim: int, start: float = 0.0, trainable: bool = True) -> None:
        super().__init__()
        _hold(self, "alpha", torch.full((1,), start), trainable)

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        """Join input ``x`` and ``branch`` (both T x B x C); float64 stays float64."""
        x, branch, alpha = (_at_least_float32(t) for t in (x, branch, self.alpha))
        return torch.addcmul(x, branch, alpha)

    def upgrade_state_dict_named(self, state_dict: dict[str, Tensor], name: str) -> None:
        """fairseq calls this before loading: a stock checkpoint has no α, so it is 1."""
        state_dict.setdefault(f"{name}.alpha", torch.ones_like(self.alpha))


class GrowingResidual(GatedResidual):
    """x + α_t f, α_t = min(1, t/T) with T = ``updates`` (BranchNorm; Liu et al. 2023).

    That t is the number of updates done is our reading: the first one finds the branches shut, and
    the output changes by no more than the embeddings do. α is in the state dict, so that a
    checkpoint translates with what it was trained with.
    """

    def __init__(self, dim: int, updates: int) -> None:
        super().__init__(dim, trainable=False)
        self.updates = updates

    @torch.no_grad()
    def set_num_updates(self, num_updates: int) -> None:
        """fairseq calls this before every update with the number of those done.

        α never falls: a model that is trained further, from update 0 on, keeps its branches.
        """
        self.alpha.clamp_(min=min(1.0, num_updates / self.updates))


def _hold(module: nn.Module, name: str, value: Tensor, trainable: bool) -> None:
    """Keep ``value`` in the state dict, where it is trained as a parameter.

    Not as a frozen parameter otherwise: FullyShardedDataParallel wants all of a layer's alike.
    """
    if trainable:
        module.register_parameter(name, nn.Parameter(value))
    else:
        module.register_buffer(name, value)


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.element_size() < 4 else tensor
