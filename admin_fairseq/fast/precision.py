"""Mixed precision (--autocast): matrix products in bfloat16, everything else in float32.

Weights, residual stream and layer norm stay in float32. fairseq's --bf16, in contrast, converts the
weights themselves to bfloat16, and does not run on a CPU.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, Optional

import torch
from torch import Tensor


def precision_of(options: Any) -> Optional[torch.dtype]:
    """Return the dtype that --autocast selects for matrix products; None without --autocast."""
    return getattr(torch, options.autocast) if options.autocast else None


def in_precision(function: Callable[..., Any], dtype: Optional[torch.dtype]) -> Callable[..., Any]:
    """Return ``function(x, ...)`` with its matrix products in ``dtype``; unchanged for None.

    Each layer is wrapped in this way, since activation checkpointing runs a layer again later. If x
    is in half precision already, as in a ``half()`` model, the function runs unchanged.
    """
    # not a closure: a copy of the layer would call the method of this layer
    return function if dtype is None else partial(_run, function, dtype)


def _run(
    function: Callable[..., Any], dtype: torch.dtype, x: Tensor, *args: Any, **kwargs: Any
) -> Any:
    """Call ``function`` under torch.autocast to ``dtype``, unless x is in half precision."""
    with torch.autocast(x.device.type, dtype, enabled=x.element_size() >= 4):
        return function(x, *args, **kwargs)
