"""y = LN(ω ⊙ x + dropout(f)) in one pass over memory, forward and backward (Triton, CUDA).

ω is Admin's residual scale. Done step by step, dropout, sum and layer norm each read and write T x
B x C tensors, in float32 with ω. Fused, x and f are read once and y is written once. Pre-LN needs
the sum too, and y is what the next branch reads. The references that the kernels must equal are
``Residual.norm`` and ``Residual.sum_and_norm``: dropout, a residual module and layer norm.
"""

from __future__ import annotations

from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from admin_fairseq.kernels.trial import Compared, works

LARGEST_ROW = 8192
"""Largest number of channels that fits in the registers of one program."""

TOGETHER = 4
"""Number of rows that share a draw for their dropout masks: Philox returns four numbers at once."""

PROGRAMS = 512
"""Number of programs of the backward pass; each writes a row of partial sums for ω and layer norm.
"""


def fuses(x: Tensor, branch: Tensor) -> bool:
    """Return whether the kernels support x and the branch of a sub-layer, and work here."""
    return (
        x.is_cuda
        and x.shape == branch.shape
        and x.dtype != torch.float64
        and branch.dtype != torch.float64
        and x.shape[-1] <= LARGEST_ROW
        and works("residual connection", compared, x.device, x.dtype, branch.dtype)
    )


def residual_norm(
    x: Tensor,
    branch: Tensor,
    omega: Optional[Tensor],
    weight: Tensor,
    bias: Tensor,
    eps: float,
    dropout: float,
) -> Tensor:
    """Compute LN(ω ⊙ x + dropout(branch)) · weight + bias in float32, in one kernel.

    x and branch: T x B x C, of any precision up to float32; omega (None: 1), weight, bias: C.
    ``dropout`` is the probability that applies, 0 outside of training. The result is T x B x C in
    weight's dtype. Equal seeds of torch's generator give equal results, since sums are taken in a
    fixed order.
    """
    seed = _seed(x, dropout)
    return _ResidualNorm.apply(x, branch, omega, weight, bias, seed, eps, dropout, False)


def sum_and_norm(
    x: Tensor, branch: Tensor, weight: Tensor, bias: Tensor, eps: float, dropout: float
) -> tuple[Tensor, Tensor]:
    """Compute s = x + dropout(branch) and LN(s) · weight + bias, in one kernel.

    As ``residual_norm``; s has x's dtype, and is rounded to it before the layer norm.
    """
    seed = _seed(x, dropout)
    return _ResidualNorm.apply(x, branch, None, weight, bias, seed, eps, dropout, True)


def _seed(x: Tensor, dropout: float) -> Optional[Tensor]:
    return torch.randint(2**63 - 1, (1,), device=x.device) if dropout else None


class _ResidualNorm(torch.autograd.Function):
    """The fused computation as an autograd function.

    For the backward pass it saves x, f and two numbers per row, and recomputes the sum and the
    dropout mask. With ``keep`` it returns the sum too, and saves that instead of x and f.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        branch: Tensor,
        omega: Optional[Tensor],
        weight: Tensor,
        bias: Tensor,
        seed: Optional[Tensor],
        eps: float,
        dropout: float,
        keep: bool,
    ) -> Any:
        from admin_fairseq.kernels.fused_residual_triton import forward_kernel

        x, branch, weight, bias = (t.contiguous() for t in (x, branch, weight, bias))
        omega = None if omega is None else omega.contiguous()
        channels = x.shape[-1]
        rows = x.numel() // channels
        out = torch.empty(x.shape, dtype=weight.dtype, device=x.device)
        total = torch.empty_like(x) if keep else None
        moments = torch.empty(2, rows, dtype=torch.float32, device=x.device)
        of_x, of_branch = (x, branch) if total is None else (total, None)
        ctx.save_for_backward(of_x, of_branch, omega, weight, seed, moments)
        ctx.dropout = dropout, 1 / (1 - dropout) if dropout < 1 else 0.0
        ctx.keep, ctx.of_branch = keep, branch.dtype
        if rows:
            constants = _constants(channels, omega, seed, keep)
            with torch.cuda.device_of(x):  # Triton launches on torch's current device
                forward_kernel[(-(-rows // constants["ROWS"]),)](
                    *(x, branch, omega, weight, bias, seed, out, total, moments),
                    *(rows, channels, eps, *ctx.dropout),
                    **constants,
                )
        return out if total is None else (total, out)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Optional[Tensor], ...]:
        from admin_fairseq.kernels.fused_residual_triton import backward_kernel

        if torch.is_grad_enabled():  # once_differentiable would cost more than this
            raise RuntimeError("the fused residual has no second derivatives (create_graph)")
        x, branch, omega, weight, seed, moments = ctx.saved_tensors
        rows, channels = moments.shape[1], x.shape[-1]
        constants = _constants(channels, omega, seed, ctx.keep)
        of_sum, gradient = gradients if ctx.keep else (None, gradients[0])
        programs = min(-(-rows // constants["ROWS"]), PROGRAMS)
        dx, dbranch = torch.empty_like(x), torch.empty_like(x, dtype=ctx.of_branch)
        sums = torch.empty(3, programs, channels, dtype=torch.float32, device=x.device)
        if rows:
            with torch.cuda.device_of(x):
                backward_kernel[(programs,)](
                    *(gradient.contiguous(), None if of_sum is None else of_sum.contiguous()),
                    *(x, branch, omega, weight, seed, moments),
                    *(dx, dbranch, sums, rows, channels, programs, *ctx.dropout),
                    **constants,
                )
        domega, *norms = sums.sum(1).to(weight.dtype).unbind(0)
        return dx, dbranch, None if omega is None else domega, *norms, None, None, None, None


def _constants(
    channels: int, omega: Optional[Tensor], seed: Optional[Tensor], keep: bool
) -> dict[str, Any]:
    """Return the compile-time constants of both kernels for C = ``channels``."""
    block = 1 << (channels - 1).bit_length()  # the power of two not below C
    return {
        "SCALES": omega is not None,
        "DROPS": seed is not None,
        "KEEPS": keep,
        "ROWS": 1 if seed is None else TOGETHER,
        "BLOCK": block,
        "num_warps": min(max(block // 256, 1), 16),
    }


def compared(device: torch.device, of_x: torch.dtype, of_branch: torch.dtype) -> Compared:
    """Compute output and gradients of a small input with dropout, by kernels and by plain torch."""
    generator = torch.Generator().manual_seed(0)
    sizes = {"x": (5, 512), "branch": (5, 512), "omega": (512,), "weight": (512,), "bias": (512,)}
    drawn = {name: torch.randn(size, generator=generator) for name, size in sizes.items()}
    inputs = [
        tensor.to(device, of_branch if name == "branch" else of_x).requires_grad_()
        for name, tensor in drawn.items()
    ]
    above = torch.randn(sizes["x"], generator=generator).to(device, of_x)
    seed = torch.zeros(1, dtype=torch.int64, device=device)

    def with_gradients(*outputs: Tensor, of: list[Tensor]) -> list[Tensor]:
        given = [above.to(output.dtype) for output in outputs]
        return [*outputs, *torch.autograd.grad(outputs, of, given)]

    x, branch, omega, weight, bias = exact = [t.detach().float().requires_grad_() for t in inputs]
    found = with_gradients(_ResidualNorm.apply(*inputs, seed, 1e-5, 0.5, False), of=inputs)
    kept = 2 * found[2].ne(0)  # where the gradient of the branch is 0, it was dropped
    plain = F.layer_norm(omega * x + branch * kept, (512,), weight, bias, 1e-5)
    expected = with_gradients(plain, of=exact)

    outputs = _ResidualNorm.apply(*inputs[:2], None, *inputs[3:], seed, 1e-5, 0.5, True)
    found += with_gradients(*outputs, of=inputs[:2] + inputs[3:])
    total = x + branch * kept
    plain = F.layer_norm(total, (512,), weight, bias, 1e-5)
    expected += with_gradients(total, plain, of=exact[:2] + exact[3:])
    names = ["output", *sizes, "sum", "norm of sum", "x of sum", "branch of sum"]
    return dict(zip([*names, "weight of sum", "bias of sum"], zip(found, expected)))
