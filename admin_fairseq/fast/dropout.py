"""Dropout whose masks are drawn fast on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from fairseq.modules import FairseqDropout
from torch import Tensor, nn

from admin_fairseq.repairs.private import is_compiling

STEPS = 2**16
"""Number of different dropout probabilities: a mask is drawn from 16 random bits per element."""


class Dropout(FairseqDropout):
    """fairseq's dropout with faster masks on a CPU, where p is rounded to a multiple of 1/65536.

    On a CPU, torch draws one number per element and keeps masks of four bytes per element; this
    class draws one number for four elements and keeps masks of one byte. Elements that are not
    dropped are scaled for the rounded p, so that the mean is exact.
    """

    @classmethod
    def like(cls, dropout: FairseqDropout) -> Dropout:
        """Return a Dropout with the probability and the name of fairseq's module ``dropout``."""
        return cls(dropout.p, dropout.module_name)

    def forward(self, x: Tensor, inplace: bool = False) -> Tensor:
        """Apply dropout to x (any shape) in training, or always if so configured."""
        active = self.training or self.apply_during_inference
        dropped = round(self.p * STEPS)
        fast = x.device.type == "cpu" and not is_compiling()
        if not (active and fast and 0 < dropped < STEPS):
            return super().forward(x, inplace)
        return _Masked.apply(x, kept(x.numel(), dropped).view(x.shape), STEPS / (STEPS - dropped))


def name_as_in_fairseq(module: nn.Module) -> None:
    """Name the dropouts of ``module`` after the fairseq class that the module extends.

    fairseq's --retain-dropout-modules selects dropouts by these names.
    """
    stock = next(c for c in type(module).__mro__ if c.__module__.startswith("fairseq."))
    for child in module.children():
        if isinstance(child, FairseqDropout):
            child.module_name = stock.__name__


def kept(count: int, dropped: int) -> Tensor:
    """Draw ``count`` booleans, each False with probability ``dropped``/65536."""
    draws = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    return draws.view(torch.int16)[:count] >= dropped - STEPS // 2


class _Masked(torch.autograd.Function):
    """Multiply x by ``scale`` where the mask is True and by 0 elsewhere; save only the mask."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.scale = scale
        return (x * mask).mul_(scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (mask,) = ctx.saved_tensors
        return (gradient * mask).mul_(ctx.scale), None, None
