"""Losses and gradients of logits in one kernel that overwrites them (Triton, CUDA).

The plain reference is in ``chunked_loss``, which goes through the logits some ten times, in
float32. Here a row is read three times, mostly from the cache, in the precision it has, and written
once; all arithmetic is in float32.

Shapes: n tokens, V types.
"""

from __future__ import annotations

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from admin_fairseq.kernels.trial import Compared, works

BLOCK = 4096
"""Types that a program processes at once."""


def fuses(logits: Tensor) -> bool:
    """Whether the kernel supports these logits, and works here."""
    return (
        logits.is_cuda
        and logits.dtype != torch.float64
        and logits.stride(1) == 1
        and works("chunked loss", compared, logits.device, logits.dtype)
    )


def softmax_losses(
    logits: Tensor, targets: Tensor, smoothing: float, scales: Optional[Tensor] = None
) -> Tensor:
    """Label-smoothed loss and −log p of the targets, float32, 2 x n.

    logits: n x V; targets: n; scales: n, float32. With ``scales``, the logits are overwritten by
    the gradient of the losses, each times its scale.
    """
    from admin_fairseq.kernels.fused_softmax_triton import softmax_kernel

    rows, types = logits.shape
    spread = smoothing / (types - 1) if smoothing else 0.0
    losses = torch.empty(2, rows, dtype=torch.float32, device=logits.device)
    if rows:
        with torch.cuda.device_of(logits):  # Triton launches on torch's current device
            softmax_kernel[(rows,)](
                *(logits, targets.contiguous(), scales, *losses, logits.stride(0), types),
                *(spread, 1 - smoothing - spread),
                GRADIENT=scales is not None,
                BLOCK=min(BLOCK, 1 << (types - 1).bit_length()),
                num_warps=8,
            )
    return losses


def compared(device: torch.device, dtype: torch.dtype) -> Compared:
    """Compute losses and gradient of a few logits, by the kernel and by plain torch."""
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(4, BLOCK + 1024, generator=generator)).to(device, dtype)
    targets = torch.randint(logits.shape[1], (4,), generator=generator).to(device)
    scales = torch.linspace(1, 2, 4, dtype=torch.float32, device=device)
    exact = logits.clone().float().requires_grad_()
    nll = F.cross_entropy(exact, targets, reduction="none")
    # torch spreads the smoothing over all types, fairseq over all but the target
    smoothing = 0.1 * logits.shape[1] / (logits.shape[1] - 1)
    loss = F.cross_entropy(exact, targets, reduction="none", label_smoothing=smoothing)
    (gradient,) = torch.autograd.grad(loss, exact, scales)
    found = softmax_losses(logits, targets, 0.1, scales)  # overwrites the logits
    return dict(zip(["loss", "nll", "gradient"], zip((*found, logits), (loss, nll, gradient))))
