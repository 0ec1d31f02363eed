"""Group the operators that torch's profiler records into families by their purpose.

On a CPU, an operator's time excludes the operators it calls; on a GPU, it is the time of the
kernels it launched. Operators inside fairseq's optimiser ranges belong to the optimiser. Matrix
products are a family of their own wherever they are called. Other operators called by dropout,
layer norm, a loss or an attention kernel belong to the caller's family, and all the rest are
classified by name. Dropout made of several operators is recognised only in the forward pass: its
backward pass is a multiplication like any other.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any, Iterable, Iterator, NamedTuple

OPTIMISER = "optimiser"
RANGES = ("reduce-grads", "multiply-grads", "clip-grads", "optimizer")
"""The names in a profile that fairseq gives to the parts of an update after the backward pass."""

STRETCHES = {"forward", "backward"}
"""fairseq's names for the other parts, left out: their own time is Python's, between operators."""

PRODUCTS = "matrix products"
_PRODUCT = re.compile(
    r"::(add)?(mm|bmm|mv)_?$|baddbmm|linear$|linear_backward|matmul|mkldnn|einsum"
)

WHOLES = {
    "attention kernel": r"scaled_dot_product|flash_attention|efficient_attention",
    "dropout": r"dropout|_Masked",  # the latter is ours (fast/dropout.py)
    "layer norm": r"layer_norm",
    "loss": r"log_softmax|nll_loss|cross_entropy|logsumexp|^_Loss(Backward)?$",  # the last: ours
    "softmax": r"softmax",
}
"""Family → pattern of its operators' names; operators that these call belong to it, too."""

PARTS = {
    "compiled": r"cpp_fused|triton_|CompiledFxGraph|Torch-Compiled|CompiledFunction",
    "dropout": r"bernoulli|masked_scale|philox|::random_",
    "loss": r"gather",
    "embedding": r"embedding|index",
    "masks": r"masked_fill|::where|triu|tril|bitwise|logical|::(eq|ne|lt|gt|le|ge|any|all)$",
    "copies": r"copy|clone|contiguous|::cat$|::stack$|::to$|::pin_memory|Memcpy",
    "memory": r"empty|zero|::fill_$|::ones|::full|resize|set_$|Memset",
    "elementwise": r"::(add|sub|mul|div|neg|relu|gelu|threshold|sqrt|pow|exp|log|sum|mean|clamp|"
    r"addc|lerp|cum|abs|sin|cos|reciprocal|norm|linalg|max|min|maximum|minimum|detach|arange|"
    r"_foreach|_fused)",
}
"""Family → pattern of its operators' names; the first family that matches is chosen."""

VIEWS = "views and bookkeeping"
OTHER = "other"
OUTSIDE = "outside operators"
"""The family of the time outside all operators: Python on a CPU, an idle device on a GPU."""

_VIEW = re.compile(
    r"view|reshape|transpose|permute|expand|slice|select|squeeze|as_strided|narrow|chunk|split|"
    r"::t$|::T$|alias|resolve|item|_local_scalar|is_|result_type|autograd::|Backward|AccumulateGrad"
)


class Operator(NamedTuple):
    """The calls of one operator within one family (such as dropout), added up."""

    name: str
    family: str
    calls: int
    seconds: float


def family_of(name: str, ancestors: Iterable[str] = ()) -> str:
    """Return the family (such as dropout) to which the operator ``name`` belongs.

    ``ancestors`` are its callers, innermost first, which can decide the family.
    """
    line = [name, *ancestors]
    if any(one in RANGES or one.startswith("Optimizer.") for one in line):
        return OPTIMISER
    if _PRODUCT.search(name):
        return PRODUCTS
    for one in line:
        for family, pattern in WHOLES.items():
            if re.search(pattern, one):
                return family
    for family, pattern in PARTS.items():
        if re.search(pattern, name):
            return family
    return VIEWS if _VIEW.search(name) else OTHER


def operators(events: Iterable[Any], on_gpu: bool) -> list[Operator]:
    """Add up profiled calls by operator and family (such as dropout); returns the longest first.

    ``events`` are those of torch's profiler. Operators that took no time are left out.
    """
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.name in STRETCHES:
            continue
        key = (event.name, family_of(event.name, _ancestors(event)))
        found[key].append(_microseconds(event, on_gpu) / 1e6)
    added = [Operator(*key, len(times), sum(times)) for key, times in found.items()]
    return sorted((one for one in added if one.seconds > 0), key=lambda one: -one.seconds)


def _ancestors(event: Any) -> Iterator[str]:
    """Yield the names of the operators that called the one of ``event``, innermost first."""
    while event.cpu_parent is not None:
        event = event.cpu_parent
        yield event.name


def _microseconds(event: Any, on_gpu: bool) -> float:
    """Return the microseconds that ``event`` itself took on the CPU, or its kernels on the GPU."""
    if not on_gpu:
        return event.self_cpu_time_total
    if hasattr(event, "self_device_time_total"):
        return event.self_device_time_total
    return event.self_cuda_time_total  # torch 2.1
