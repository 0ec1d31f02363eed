"""torch.compile for single layers.

Layers of a kind share their code, and thus its compiled forms; a form serves all batches whose
sizes differ, so that fairseq's buckets of lengths do not each have one compiled.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any, Callable

import torch
from torch import nn

from admin_fairseq.errors import AdminError
from admin_fairseq.repairs.private import dynamo

MOST_FORMS = 64
"""Of one kind of layer; torch stops at 8. Each stack's batch has one of three layouts (no padding,
some, enough to pack), each with and without gradients where activations are checkpointed, and
torch takes a batch of one sentence, or of one position, for another kind."""


class CompilingError(AdminError, RuntimeError):
    """torch cannot compile here.

    A RuntimeError, as torch's own is: for any other error of an update fairseq's trainer leaves a
    checkpoint, crash.pt.
    """


def compile_for_training(layer: nn.Module) -> None:
    """Let ``layer`` run compiled on the fast paths of training.

    Its parameters keep their names. Outside of training it runs as it is: decoding step by step
    changes what it keeps in every step. So it does on fairseq's own paths, where hooks look on
    (the profile), and where it shows its attention, which would double the forms of all layers.
    Raises CompilingError where torch cannot.
    """
    layer.forward = partial(_forward, layer)  # no closure: a copy of the layer would call this one


def _forward(layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
    plain = type(layer).forward
    fast = kwargs.get("layout") is not None
    if not (fast and layer.training) or kwargs.get("need_attn"):
        return plain(layer, *args, **kwargs)
    config, exc = dynamo()

    try:
        with config.patch(cache_size_limit=MOST_FORMS):
            return _compiled(plain)(layer, *args, **kwargs)
    except exc.BackendCompilerFailed as error:
        raise CompilingError(_explained(error.inner_exception)) from error


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=True)


def _explained(error: Exception) -> str:
    reason = str(error).strip().partition("\n")[0]
    return (
        f"torch.compile failed ({type(error).__name__}: {reason}). On a CPU it wants a C++ "
        f"compiler, and torch in a folder without spaces (here: {torch.__path__[0]}); else leave "
        "out --compile"
    )
