"""All private parts of other packages that we touch: a release of theirs may take them away.

Some have another way, which is taken then. Where there is none, an error says in one line what is
gone and which versions have it.
"""

from __future__ import annotations

import pickle
from importlib import import_module
from typing import Any, Callable, Mapping, Optional, Sequence

import numpy as np
import torch
from fairseq.data import indexed_dataset
from fairseq.data.huffman import HuffmanMMapIndex
from fairseq.data.indexed_dataset import IndexedDataset, MMapIndexedDataset
from fairseq.distributed import utils as distributed_utils
from fairseq.logging.progress_bar import BaseProgressBar
from fairseq.trainer import Trainer
from omegaconf import DictConfig
from torch import Tensor, nn

from admin_fairseq.errors import AdminError

SEEN = {
    "fairseq": "fairseq 0.12.2 and fairseq-fixed 0.12.3.1",
    "omegaconf": "omegaconf 2.0.6 to 2.3.0",
    "torch": "torch 2.1 to 2.13",
}
"""Package → where the parts below were seen; those of Python itself in 3.9 to 3.12."""


def part(owner: Any, name: str) -> Any:
    """``owner.name``; raises AdminError where it is gone.

    ``owner`` is a module, a class or one of its instances.
    """
    try:
        return getattr(owner, name)
    except AttributeError:
        kind = owner if hasattr(owner, "__name__") else type(owner)
        module = getattr(kind, "__module__", None)  # which a module does not have
        whole = f"{module}.{kind.__qualname__}" if module else kind.__name__
        seen = SEEN.get(whole.split(".")[0], "Python 3.9 to 3.12")
        raise AdminError(
            f"{whole}.{name} is gone, which admin-fairseq needs; {seen} have it"
        ) from None


# torch

if hasattr(torch.compiler, "is_compiling"):
    is_compiling = torch.compiler.is_compiling
else:  # torch 2.1 and 2.2
    from torch._dynamo import is_compiling  # noqa: F401


class LoadsAsTorchDoes:
    """Loads its weights as any module of torch, whatever a class of fairseq's adds to that.

    An encoder layer of fairseq 0.12.2 fills its mirrored weights there.
    """

    _load_from_state_dict = part(nn.Module, "_load_from_state_dict")


def dynamo() -> tuple[Any, Any]:
    """The settings and the exceptions of torch.compile; importing them takes a second."""
    return import_module("torch._dynamo.config"), import_module("torch._dynamo.exc")


def calls_anything_before(module: nn.Module) -> bool:
    """Whether something is called before ``forward``."""
    return bool(part(module, "_forward_pre_hooks"))


def add_to_each(tensors: Sequence[Tensor], others: Sequence[Tensor], alpha: float) -> None:
    """Add ``alpha`` times its neighbour in ``others`` to each of ``tensors``, in place."""
    at_once = getattr(torch, "_foreach_add_", None)
    if at_once is not None:
        at_once(tensors, others, alpha=alpha)
        return
    for tensor, other in zip(tensors, others):
        tensor.add_(other, alpha=alpha)


def allowed_globals() -> dict[str, Any]:
    """torch's own list of what a file may name under weights_only=True."""
    return dict(part(import_module("torch._weights_only_unpickler"), "_get_allowed_globals")())


# omegaconf


def root_of(cfg: DictConfig) -> Any:
    """The whole configuration of which ``cfg`` is a part."""
    return part(cfg, "_get_root")()


# fairseq

INDEX_MAGIC: bytes = part(MMapIndexedDataset.Index, "_HDR_MAGIC")
"""How the index of fairseq's usual data format begins."""

OTHER_MAGIC: tuple[bytes, ...] = (
    part(IndexedDataset, "_HDR_MAGIC"),
    part(HuffmanMMapIndex, "_HDR_MAGIC"),
)
"""How the indices of its other formats begin."""


def type_of_tokens(code: int) -> Optional[type[np.generic]]:
    """The number type for which ``code`` stands in an index."""
    return part(indexed_dataset, "_code_to_dtype").get(code)


def prepared(trainer: Trainer, batch: Any) -> tuple[Any, bool]:
    """``batch`` as the trainer hands it to the model, and whether it only fills a worker's turn."""
    return part(trainer, "_prepare_sample")(batch)


def texts(bar: BaseProgressBar, stats: Mapping[str, Any]) -> dict[str, str]:
    """A bar's statistics as fairseq shows them; the method that no kind of bar has changed."""
    return part(BaseProgressBar, "_format_stats")(bar, stats)


def in_one_line(bar: BaseProgressBar, shown: Mapping[str, str]) -> str:
    """``shown``, which ``texts`` gave, as a bar that logs puts it."""
    return part(bar, "_str_commas")(shown)


def send_objects_with(broadcast: Callable[..., Any]) -> None:
    """Let fairseq send Python objects to other workers with ``broadcast``."""
    part(distributed_utils, "_broadcast_object_slow")
    distributed_utils._broadcast_object_slow = broadcast


# Python

PythonUnpickler: Any = part(pickle, "_Unpickler")
"""The unpickler in Python, whose steps can be replaced."""

NAMES_OF_PYTHON_2: Mapping[str, str] = part(import_module("_compat_pickle"), "IMPORT_MAPPING")
"""A module's name in Python 2, which pickles of protocol 2 have → its name today."""
