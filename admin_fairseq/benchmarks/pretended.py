"""Pretend that tensors on the CPU are on a GPU, so that the host does what it would do there.

The host takes the paths that it takes on a GPU, and calls as many operators: dropout and attention
are one operator each, and Triton's launcher runs up to the call of the driver. Kernels of Triton
compute nothing, so numbers are arbitrary.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager, nullcontext
from importlib import import_module
from tempfile import TemporaryDirectory
from typing import Any, Callable, Iterator, Optional
from unittest.mock import patch

import torch
import torch.nn.functional as F
from fairseq.modules import FairseqDropout
from torch import Tensor

from admin_fairseq.errors import AdminError
from admin_fairseq.fast.attention import fits_rows

KERNELS = (
    "fused_residual_triton.forward_kernel",
    "fused_residual_triton.backward_kernel",
    "fused_softmax_triton.softmax_kernel",
)
CAPABILITY = 90  # an H100's


class Kernels:
    """Kernels of Triton, whose launches are counted."""

    def __init__(self) -> None:
        self.launched = 0

    def counting(self, kernel: Any) -> _Counting:
        """Return what stands in for ``kernel``."""
        return _Counting(self, kernel)


class _Counting:
    def __init__(self, kernels: Kernels, kernel: Any) -> None:
        self.kernels, self.kernel = kernels, kernel

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        self.kernels.launched += 1
        return self.kernel[grid]


@contextmanager
def gpu() -> Iterator[Kernels]:
    """Context manager in which CPU tensors are treated as if they were on a GPU.

    Raises AdminError if Triton is not installed.
    """
    kernels = Kernels()
    with ExitStack() as stack:
        stack.enter_context(_driver())
        for path in KERNELS:
            module, _, name = f"admin_fairseq.kernels.{path}".rpartition(".")
            kernel = getattr(import_module(module), name)
            stack.enter_context(patch(f"{module}.{name}", kernels.counting(kernel)))
            stack.callback(getattr(kernel, "device_caches", {}).clear)
        for path, stand_in in STAND_INS.items():
            stack.enter_context(patch(path, stand_in))
        yield kernels


def _dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    return torch.native_dropout(x, p, True)[0] if training and p > 0 else x


def _attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Optional[Tensor] = None, *_: Any, **__: Any
) -> Tensor:
    """One operator, forward and backward, on a CPU that has none for masks or dropout."""
    return attention_of_torch(q, k, v)


def _attention_in_row(q: Tensor, k: Tensor, v: Tensor, *_: Any) -> Tensor:
    q, k, v = (t.transpose(0, 1)[None] for t in (q, k, v))
    return attention_of_torch(q, k, v).squeeze(0).transpose(0, 1)


def _reads_rows(x: Tensor, head_dim: int) -> bool:
    return x.element_size() == 2 and fits_rows(head_dim)


attention_of_torch = F.scaled_dot_product_attention

STAND_INS: dict[str, Callable[..., Any]] = {
    "torch.nn.functional.dropout": _dropout,
    "torch.nn.functional.scaled_dot_product_attention": _attention,
    "torch.onnx.operators.shape_as_tensor": lambda x: x.shape,  # of fairseq, on the host
    "torch.cuda.device_of": lambda tensor: nullcontext(),
    "admin_fairseq.fast.attention.attend_in_row": _attention_in_row,
    "admin_fairseq.fast.attention.reads_rows": _reads_rows,
    "admin_fairseq.layers.transformer_stack.reads_rows": _reads_rows,
    "admin_fairseq.fast.attention.slow_in_half": lambda q: False,
    "admin_fairseq.fast.dropout.Dropout.forward": FairseqDropout.forward,
    "admin_fairseq.kernels.chunked_loss.fuses": lambda logits: True,
    "admin_fairseq.modules.residual.fuses": lambda x, branch: True,
}
"""What asks for the device, or is more than one operator on a CPU → what is called instead."""


@contextmanager
def _driver() -> Iterator[None]:
    """Give Triton a driver that compiles for a GPU and launches nothing, and an empty cache."""
    try:
        from triton.backends.compiler import GPUTarget
        from triton.runtime import driver
    except ImportError:
        raise AdminError("Triton is missing; install it: pip install triton") from None
    with TemporaryDirectory() as cache, patch.dict(os.environ, TRITON_CACHE_DIR=cache):
        driver.set_active(_Driver(GPUTarget("cuda", CAPABILITY, 32)))
        try:
            yield
        finally:
            driver.set_active(None)  # the default is found anew


class _Driver:
    """As much of a driver as Triton asks for before it launches a kernel."""

    def __init__(self, target: Any) -> None:
        self.target = target
        self.utils = _Utilities()

    def get_current_target(self) -> Any:
        return self.target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    @staticmethod
    def launcher_cls(source: Any, metadata: Any) -> Callable[..., None]:
        return lambda *args: None


class _Utilities:
    def load_binary(self, *binary: Any) -> tuple[int, ...]:
        return 1, 2, 64, 0, 1024  # module, function, registers, spills, most threads

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {"max_shared_mem": 232448}
