"""Whether a fast kernel works on this machine: tried once, before its first use.

Triton compiles on the user's machine: it needs a C compiler, a folder that it can write to, and a
chip that it supports. A kernel that fails there must not end a training run, as plain torch
computes the same.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from textwrap import shorten
from typing import Callable, Optional

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

OLDEST = (7, 0)
"""Compute capability from which Triton supports CUDA devices."""

TOLERANCE = 2e-5
"""Largest error in float32, as a share of the largest value; in half precision, two roundings."""

LONGEST_REASON = 300  # characters

Compared = dict[str, tuple[Tensor, Tensor]]
"""Names of outputs and gradients → what the kernel computed, and what plain torch computes."""


@cache
def works(
    name: str,
    compare: Callable[..., Compared],
    device: torch.device,
    *dtypes: torch.dtype,
) -> bool:
    """Return whether the kernel ``name`` compiles, runs and computes the right numbers.

    ``compare(device, *dtypes)`` runs it on a small input. Failure is logged, as one warning. The
    first call decides, so make it before a CUDA graph is captured. With several workers, each
    decides for itself: where the kernel fails on some of them alone, their results differ from the
    others' by rounding and in their dropout masks. torch's random state stays as it is. An error
    that leaves the device unusable, such as an illegal memory access, still ends the run.
    """
    # In a thread, torch's modes are at their defaults: no autocast, gradients enabled, no hooks of
    # activation checkpointing.
    with ThreadPoolExecutor(1) as thread:
        reason = thread.submit(_failure, compare, device, dtypes).result()
    if reason is not None:
        precision = ", ".join(str(dtype).replace("torch.", "") for dtype in dict.fromkeys(dtypes))
        logger.warning(
            f"{name}: the fast kernel does not work on {device} ({precision}), so plain torch "
            f"computes the same, more slowly: {shorten(reason, LONGEST_REASON)}"
        )
    return reason is None


def _failure(
    compare: Callable[..., Compared], device: torch.device, dtypes: tuple[torch.dtype, ...]
) -> Optional[str]:
    """Return why a kernel fails; None if it works."""
    try:
        capability = torch.cuda.get_device_capability(device)
        if capability < OLDEST:
            return f"Triton does not support compute capability {capability}"
        wrong = [name for name, pair in compare(device, *dtypes).items() if not _agree(*pair)]
    except Exception as error:  # whatever a compiler, a driver or a file system raises
        return f"{type(error).__name__}: {error}"
    return f"wrong numbers ({', '.join(wrong)})" if wrong else None


def _agree(found: Tensor, expected: Tensor) -> bool:
    tolerance = max(TOLERANCE, 2 * torch.finfo(found.dtype).eps)
    bound = tolerance * expected.abs().max()
    return bool(((found - expected).abs() <= bound).all())
