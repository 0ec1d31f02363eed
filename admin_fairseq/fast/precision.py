"""Mixed precision for our layers: matrix products in bfloat16, everything else in float32.

Weights, residual stream and layer norm stay in float32. fairseq's --bf16 converts the weights
themselves to bfloat16, and does not run on a CPU.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, Optional

import torch
from torch import Tensor


def precision_of(options: Any) -> Optional[torch.dtype]:
    """The precision of --autocast; None: that of the weights."""
    return getattr(torch, options.autocast) if options.autocast else None


def in_precision(function: Callable[..., Any], dtype: Optional[torch.dtype]) -> Callable[..., Any]:
    """``function(x, ...)`` with its matrix products in ``dtype``; None: ``function`` itself.

    Each layer does this itself, since activation checkpointing runs a layer again later. If x is in
    half precision, like the weights of a ``half()`` model, it stays in that.
    """
    # not a closure: a copy of the layer would call the method of this layer
    return function if dtype is None else partial(_run, function, dtype)


def _run(
    function: Callable[..., Any], dtype: torch.dtype, x: Tensor, *args: Any, **kwargs: Any
) -> Any:
    with torch.autocast(x.device.type, dtype, enabled=x.element_size() >= 4):
        return function(x, *args, **kwargs)
