"""torch.compile for single layers.

Layers of a kind share their code, and thus its compiled forms; a form serves all batches whose
sizes differ, so that fairseq's buckets of lengths do not each have one compiled.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from admin_fairseq.errors import AdminError

if hasattr(torch.compiler, "is_compiling"):
    is_compiling = torch.compiler.is_compiling
else:  # before torch 2.3
    from torch._dynamo import is_compiling  # noqa: F401


def compile_for_training(layer: nn.Module) -> None:
    """Let ``layer`` run compiled while it trains.

    Its parameters keep their names. Outside of training it runs as it is: decoding step by step
    changes what it keeps in every step. So does the one layer that shows its attention, which
    would double the forms of all. Raises AdminError where torch cannot compile.
    """
    from torch._dynamo.exc import BackendCompilerFailed  # takes a second to import

    plain = layer.forward
    compiled = torch.compile(plain, dynamic=True)

    def forward(*args: Any, **kwargs: Any) -> Any:
        if not layer.training or kwargs.get("need_attn"):
            return plain(*args, **kwargs)
        try:
            return compiled(*args, **kwargs)
        except BackendCompilerFailed as error:
            raise AdminError(_explained(error.inner_exception)) from error

    layer.forward = forward


def _explained(error: Exception) -> str:
    reason = str(error).strip().partition("\n")[0]
    return (
        f"torch.compile failed ({type(error).__name__}: {reason}). On a CPU it wants a C++ "
        f"compiler, and torch in a folder without spaces (here: {torch.__path__[0]}); else leave "
        "out --compile"
    )
