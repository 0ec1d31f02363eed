"""Access every private part of other packages that the plugin uses.

A new release of these packages may remove such a part. For some parts there is an alternative,
which is used then; for the others, an AdminError says in one line what is missing and which
versions have it.
"""

from __future__ import annotations

import pickle
from argparse import Action, ArgumentParser
from importlib import import_module
from typing import Any, Callable, Mapping, Optional, Sequence

import numpy as np
import torch
from fairseq.data import indexed_dataset
from fairseq.data.huffman import HuffmanMMapIndex
from fairseq.data.indexed_dataset import IndexedDataset, MMapIndexedDataset
from fairseq.distributed import utils as distributed_utils
from fairseq.logging.progress_bar import BaseProgressBar
from fairseq.optim import fp16_optimizer
from fairseq.trainer import Trainer
from omegaconf import DictConfig
from torch import Tensor, nn

from admin_fairseq.errors import AdminError

SEEN = {
    "fairseq": "fairseq 0.12.2 and fairseq-fixed 0.12.3.1",
    "omegaconf": "omegaconf 2.0.6 to 2.3.0",
    "torch": "torch 2.1 to 2.13",
}
"""Package → versions that have the parts used below. Python's parts are in 3.9 to 3.12."""


def part(owner: Any, name: str) -> Any:
    """Return the attribute ``owner.name``; raise AdminError if it is missing.

    ``owner`` is a module, a class or an instance. The error names the versions that have the
    attribute.
    """
    try:
        return getattr(owner, name)
    except AttributeError:
        kind = owner if hasattr(owner, "__name__") else type(owner)
        module = getattr(kind, "__module__", None)  # modules have none
        whole = f"{module}.{kind.__qualname__}" if module else kind.__name__
        seen = SEEN.get(whole.split(".")[0], "Python 3.9 to 3.12")
        raise AdminError(
            f"{whole}.{name} is missing, which admin-fairseq needs; {seen} have it"
        ) from None


# torch

if hasattr(torch.compiler, "is_compiling"):
    is_compiling = torch.compiler.is_compiling
else:  # torch 2.1 and 2.2
    from torch._dynamo import is_compiling  # noqa: F401


DispatchMode: Any = part(import_module("torch.utils._python_dispatch"), "TorchDispatchMode")
"""The base class of contexts within which every operator of torch is intercepted."""


class LoadsAsTorchDoes:
    """Mixin that restores torch's loading of weights in a class derived from one of fairseq's.

    The encoder layer of fairseq 0.12.2 overrides ``_load_from_state_dict``, to fill copies of its
    weights for its fused inference path.
    """

    _load_from_state_dict = part(nn.Module, "_load_from_state_dict")


def dynamo() -> tuple[Any, Any]:
    """Return torch.compile's modules of configuration and exceptions.

    They are imported only here, as importing them takes a second.
    """
    return import_module("torch._dynamo.config"), import_module("torch._dynamo.exc")


def calls_anything_before(module: nn.Module) -> bool:
    """Return whether ``module`` has hooks that run before its ``forward``."""
    return bool(part(module, "_forward_pre_hooks"))


def version_of(tensor: Tensor) -> int:
    """Return how often the values of ``tensor`` were changed in place; 0 for inference tensors."""
    return 0 if tensor.is_inference() else part(tensor, "_version")


def add_to_each(tensors: Sequence[Tensor], others: Sequence[Tensor], alpha: float) -> None:
    """Add ``alpha`` times each of ``others`` to the tensor at its place in ``tensors``.

    The tensors are changed in place.
    """
    at_once = getattr(torch, "_foreach_add_", None)
    if at_once is not None:
        at_once(tensors, others, alpha=alpha)
        return
    for tensor, other in zip(tensors, others):
        tensor.add_(other, alpha=alpha)


def flash_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    starts: tuple[Tensor, Tensor],
    longest: tuple[int, int],
    dropout: float,
    causal: bool,
) -> Tensor:
    """Attention of sentences in one row, in half precision on CUDA.

    q: N x H x D; k, v: M x H x D; ``starts`` (int32) and ``longest`` of queries, then of keys.
    torch's public form (torch.nn.attention.varlen, from 2.10 on) has no dropout.
    """
    operator = part(torch.ops.aten, "_flash_attention_forward")
    return operator(q, k, v, *starts, *longest, dropout, causal, False)[0]


def copy_to_each(tensors: Sequence[Tensor], others: Sequence[Tensor]) -> None:
    """Copy each of ``others`` into the tensor at its place, whose dtype may differ."""
    at_once = getattr(torch, "_foreach_copy_", None)
    if at_once is not None:
        at_once(tensors, others)
        return
    for tensor, other in zip(tensors, others):
        tensor.copy_(other)


def allowed_globals() -> dict[str, Any]:
    """Return a copy of torch's list of names that a file may contain under weights_only=True.

    The dictionary maps each full name ("collections.OrderedDict") to the object it stands for.
    """
    return dict(part(import_module("torch._weights_only_unpickler"), "_get_allowed_globals")())


# omegaconf


def root_of(cfg: DictConfig) -> Any:
    """Return the whole configuration that contains ``cfg``."""
    return part(cfg, "_get_root")()


# fairseq

INDEX_MAGIC: bytes = part(MMapIndexedDataset.Index, "_HDR_MAGIC")
"""First bytes of an .idx file in fairseq's usual data format (mmap)."""

OTHER_MAGIC: tuple[bytes, ...] = (
    part(IndexedDataset, "_HDR_MAGIC"),
    part(HuffmanMMapIndex, "_HDR_MAGIC"),
)
"""First bytes of .idx files in fairseq's other data formats."""


HalfPrecisionOptimizer: Any = part(fp16_optimizer, "_FP16OptimizerMixin")
"""What --fp16 and --bf16 wrap the optimiser in."""
GRADIENTS_TO_FLOAT32: Any = part(HalfPrecisionOptimizer, "_sync_fp16_grads_to_fp32")
WEIGHTS_TO_HALF: Any = part(HalfPrecisionOptimizer, "_sync_fp32_params_to_fp16")
"""Its methods that copy gradients to float32 before a step, and weights back after it."""


def copy_with(gradients: Callable[[Any], None], weights: Callable[[Any], None]) -> None:
    """Let optimisers in half precision copy gradients to float32, and weights back, with these."""
    HalfPrecisionOptimizer._sync_fp16_grads_to_fp32 = gradients
    HalfPrecisionOptimizer._sync_fp32_params_to_fp16 = weights


def awaits_gradients(optimizer: Any) -> bool:
    """Return whether an optimiser in half precision has yet to copy its gradients to float32."""
    return bool(part(optimizer, "_needs_sync"))


def note_copied(optimizer: Any) -> None:
    """Note that an optimiser in half precision has copied its gradients to float32."""
    optimizer._needs_sync = False


def factor_of(optimizer: Any) -> Any:
    """Return what --fp16 and --bf16 will multiply gradients by in the next step; 1 otherwise.

    The factor undoes the loss scale, divides by the number of tokens, and clips.
    """
    return getattr(optimizer, "_multiply_factor", 1.0)


def type_of_tokens(code: int) -> Optional[type[np.generic]]:
    """Return the number type that ``code`` in an .idx file's header means; None if unknown."""
    return part(indexed_dataset, "_code_to_dtype").get(code)


def prepared(trainer: Trainer, batch: Any) -> tuple[Any, bool]:
    """Return ``batch`` as the trainer passes it to the model, and whether it is only a dummy."""
    return part(trainer, "_prepare_sample")(batch)


def module_of(trainer: Trainer) -> nn.Module:
    """Return the model that ``trainer`` trains, without what fairseq wraps it in."""
    model = part(trainer, "_model")
    while isinstance(getattr(model, "module", None), nn.Module):
        model = model.module
    return model


def prepare_samples_with(prepare: Callable[..., Any]) -> Callable[..., Any]:
    """Patch fairseq's trainer to prepare batches with ``prepare``; returns what it replaces."""
    replaced = part(Trainer, "_prepare_sample")
    Trainer._prepare_sample = prepare
    return replaced


def texts(bar: BaseProgressBar, stats: Mapping[str, Any]) -> dict[str, str]:
    """Return a progress bar's statistics formatted as fairseq shows them: name → text."""
    return part(BaseProgressBar, "_format_stats")(bar, stats)


def in_one_line(bar: BaseProgressBar, shown: Mapping[str, str]) -> str:
    """Join ``shown``, the result of ``texts``, into one line, as fairseq's progress bars do."""
    return part(bar, "_str_commas")(shown)


def send_objects_with(broadcast: Callable[..., Any]) -> None:
    """Patch fairseq to send Python objects to other workers with the function ``broadcast``."""
    part(distributed_utils, "_broadcast_object_slow")
    distributed_utils._broadcast_object_slow = broadcast


# Python

PythonUnpickler: Any = part(pickle, "_Unpickler")
"""The unpickler written in Python, whose steps can be overridden."""


def options_of(parser: ArgumentParser) -> Sequence[Action]:
    """Return what a parser of command lines accepts, in the order in which it was added."""
    return part(parser, "_actions")


NAMES_OF_PYTHON_2: Mapping[str, str] = part(import_module("_compat_pickle"), "IMPORT_MAPPING")
"""A module's name in Python 2, which pickles of protocol 2 contain → its name in Python 3."""
