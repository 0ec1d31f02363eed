"""Compile single layers with torch.compile (--compile).

Layers of one class share their code and its compiled variants. Variants have dynamic shapes, so
that fairseq's batches of different lengths do not each trigger a compilation.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any, Callable

import torch
from torch import nn

from admin_fairseq.errors import AdminError
from admin_fairseq.repairs.private import dynamo

MOST_VARIANTS = 64
"""Largest number of compiled variants of one class of layer; torch's own limit is 8.

The batch of each stack has one of three layouts (no padding, some, enough to pack), each with and
without gradients if activations are checkpointed, and torch compiles separately for a batch of one
sentence, or of one position.
"""


class CompilingError(AdminError, RuntimeError):
    """The error raised when torch cannot compile on this machine.

    It is also a RuntimeError, like torch's own: on any other error in an update, fairseq's trainer
    writes a checkpoint, crash.pt.
    """


def compile_for_training(layer: nn.Module) -> None:
    """Make ``layer`` run compiled in training on the fast path (without --reference-kernels).

    Its parameters keep their names. It runs uncompiled outside of training, since incremental
    decoding changes its state in every step; on fairseq's own path, where hooks watch it to measure
    a profile (per-layer variances); and when it returns attention weights, which would double the
    variants of all layers. Calling it raises CompilingError where torch cannot compile.
    """
    layer.forward = partial(_forward, layer)  # not a closure: copies would call this layer


def _forward(layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """Call the layer's forward, compiled in training on the fast path without attention weights."""
    plain = type(layer).forward
    fast = kwargs.get("layout") is not None
    if not (fast and layer.training) or kwargs.get("need_attn"):
        return plain(layer, *args, **kwargs)
    config, exc = dynamo()

    try:
        with config.patch(cache_size_limit=MOST_VARIANTS):
            return _compiled(plain)(layer, *args, **kwargs)
    except exc.BackendCompilerFailed as error:
        raise CompilingError(_explained(error.inner_exception)) from error


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=True)


def _explained(error: Exception) -> str:
    """Return the text of an error message for ``error``, which torch's compiler raised."""
    reason = str(error).strip().partition("\n")[0]
    return (
        f"torch.compile failed ({type(error).__name__}: {reason}). On a CPU it needs a C++ "
        f"compiler, and torch in a folder without spaces (here: {torch.__path__[0]}); otherwise "
        "leave out --compile"
    )
