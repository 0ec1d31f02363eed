"""Hooks that measure the variances from which Admin's residual scales ω are computed."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Callable, Iterator, NamedTuple

import torch
from fairseq.modules import LayerDropModuleList
from torch import Tensor, nn

from admin_fairseq.errors import AdminError
from admin_fairseq.formulas import admin_next_omega
from admin_fairseq.hooks.trace import layers_of, stacks_of
from admin_fairseq.modules.residual import ScaledResidual


class Site(NamedTuple):
    """The place of a residual connection: stack, layer (counted from 0), kind of sub-layer.

    ``stack`` is encoder or decoder, ``sublayer`` self_attn, encoder_attn or ffn.
    """

    stack: str
    layer: int
    sublayer: str

    def __str__(self) -> str:
        return f"{self.stack} layer {self.layer} {self.sublayer}"


def residuals_of(model: nn.Module) -> Iterator[tuple[Site, nn.Module]]:
    """Yield the place and the module of every residual connection of ``model``, in running order.

    Sub-layers may share a module.
    """
    for stack, module in stacks_of(model).items():
        for number, layer in enumerate(layers_of(module)):
            for name, residual in layer.residuals.items():
                yield Site(stack, number, name), residual


def residual_sites(model: nn.Module) -> dict[Site, ScaledResidual]:
    """Return the place of every residual connection with a residual scale ω → the module."""
    return {site: r for site, r in residuals_of(model) if isinstance(r, ScaledResidual)}


class Recorder:
    """Accumulates, over batches, the moments of every residual connection's input and branch.

    ``moments`` (sub-layers x 2 x 3, float64) are, for input and branch, the number of elements,
    their sum and the sum of their squares, which can be added over batches and workers. Padding
    counts, as in the release; in ``moments`` it does not.
    """

    def __init__(self, sites: dict[Site, ScaledResidual]) -> None:
        self.sites = sites
        self.moments = torch.zeros(len(sites), 2, 3, dtype=torch.float64)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Record the forward pass that runs inside the block, which must use fairseq's own kernels.

        As in the original Admin release, ω_i is set just before sub-layer i adds its residual, from
        this batch's statistics of the sub-layers before, so that later layers see the scaled
        network. All of this stays on the device until the block ends. Raises AdminError then if an
        ω was too large for its dtype.
        """
        running: dict[str, Tensor] = {}
        measured: dict[int, Tensor] = {}  # row → moments and ω

        def hook_for(row: int, site: Site) -> Callable[..., None]:
            def record(residual: ScaledResidual, inputs: tuple[Tensor, Tensor]) -> None:
                moments = torch.stack([_moments(t) for t in inputs])
                omega = running.get(site.stack, moments.new_ones(()))
                residual.omega.detach().fill_(omega)
                x, branch = variances(moments)
                running[site.stack] = admin_next_omega(omega, x, branch, sqrt=torch.sqrt)
                measured[row] = torch.cat([moments.flatten(), omega[None]])

            return record

        handles = [
            residual.register_forward_pre_hook(hook_for(row, site))
            for row, (site, residual) in enumerate(self.sites.items())
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
        if measured:
            self._add(measured)

    def _add(self, measured: dict[int, Tensor]) -> None:
        """Add a batch's moments (sub-layer → 2 x 3 moments and ω, 7), in one transfer."""
        values = torch.stack(list(measured.values())).cpu()
        self.moments[list(measured)] += values[:, :-1].unflatten(1, (2, 3))
        residuals = list(self.sites.values())
        for row, omega in zip(measured, values[:, -1].tolist()):
            set_omega(residuals[row], omega)

    def variances(self) -> Tensor:
        """Return the biased variances of input and branch over all batches (sub-layers x 2)."""
        return variances(self.moments)


def pooled_omegas(sites: list[Site], variances: Tensor) -> list[float]:
    """Compute Admin's residual scale ω of every sub-layer from variances (sub-layers x 2).

    The variances are of input and branch, pooled over batches. Each stack starts at ω = 1.
    """
    running = {site.stack: 1.0 for site in sites}
    omegas = []
    for site, (input_variance, branch_variance) in zip(sites, variances.tolist()):
        omegas.append(running[site.stack])
        running[site.stack] = admin_next_omega(omegas[-1], input_variance, branch_variance)
    return omegas


@torch.no_grad()
def set_omega(residual: ScaledResidual, omega: float) -> None:
    """Set Admin's residual scale ω in place; raise AdminError if the dtype cannot hold it."""
    dtype = residual.omega.dtype
    if omega > torch.finfo(dtype).max:
        raise AdminError(f"ω of {omega:.4g} is too large for {dtype}: the network explodes")
    residual.omega.fill_(omega)


@contextmanager
def all_layers_kept(model: nn.Module) -> Iterator[None]:
    """Suspend LayerDrop inside the block, as a profile needs every layer."""
    dropping = [m for m in model.modules() if isinstance(m, LayerDropModuleList)]
    rates = [m.p for m in dropping]
    for module in dropping:
        module.p = 0.0
    try:
        yield
    finally:
        for module, rate in zip(dropping, rates):
            module.p = rate


def _moments(tensor: Tensor) -> Tensor:
    """Return number of elements, sum, and sum of squares; float64, so that fp16 cannot overflow."""
    flat = tensor.detach().double().flatten()
    return torch.stack([flat.new_full((), flat.numel()), flat.sum(), flat.dot(flat)])


def variances(moments: Tensor) -> Tensor:
    """Compute biased variances from moments (last dimension: number, sum, sum of squares)."""
    count, total, squares = moments.unbind(-1)
    return (squares / count - (total / count) ** 2).clamp(min=0)  # rounding may take it below
