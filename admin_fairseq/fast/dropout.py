"""Dropout with masks that are fast to draw on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from fairseq.modules import FairseqDropout
from torch import Tensor, nn

from admin_fairseq.repairs.private import is_compiling

STEPS = 2**16
"""A mask takes 16 random bits per element."""


class Dropout(FairseqDropout):
    """fairseq's dropout. On a CPU, p is rounded to a multiple of 1/65536.

    There, torch draws one number per element and keeps masks of four bytes per element; here one
    draw serves four elements, and masks take one byte. Kept elements are scaled for the rounded p,
    so that the mean is exact.
    """

    @classmethod
    def like(cls, dropout: FairseqDropout) -> Dropout:
        return cls(dropout.p, dropout.module_name)

    def forward(self, x: Tensor, inplace: bool = False) -> Tensor:
        """x: any shape."""
        active = self.training or self.apply_during_inference
        dropped = round(self.p * STEPS)
        fast = x.device.type == "cpu" and not is_compiling()
        if not (active and fast and 0 < dropped < STEPS):
            return super().forward(x, inplace)
        return _Masked.apply(x, kept(x.numel(), dropped).view(x.shape), STEPS / (STEPS - dropped))


def name_as_in_fairseq(module: nn.Module) -> None:
    """Name the dropouts of ``module`` after its base class in fairseq.

    --retain-dropout-modules selects by these names.
    """
    stock = next(c for c in type(module).__mro__ if c.__module__.startswith("fairseq."))
    for child in module.children():
        if isinstance(child, FairseqDropout):
            child.module_name = stock.__name__


def kept(count: int, dropped: int) -> Tensor:
    """``count`` booleans, each False with probability ``dropped``/65536."""
    draws = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    return draws.view(torch.int16)[:count] >= dropped - STEPS // 2


class _Masked(torch.autograd.Function):
    """x where the mask is True, times ``scale``; 0 elsewhere."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.scale = scale
        return (x * mask).mul_(scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (mask,) = ctx.saved_tensors
        return (gradient * mask).mul_(ctx.scale), None, None
