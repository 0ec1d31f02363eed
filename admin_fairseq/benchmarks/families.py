"""Operators of torch's profiler, grouped into families by their purpose.

On a CPU, an operator's own time excludes that of operators it calls; on a GPU, it is that of the
kernels it launched. Operators inside fairseq's optimiser ranges belong to the optimiser; matrix
products are always their own family; other operators called by dropout, layer norm, a loss or an
attention kernel belong to these; the rest is classified by name. Dropout made of several operators
is recognised only in the forward pass: its backward pass is a multiplication like any other.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any, Iterable, Iterator, NamedTuple

OPTIMISER = "optimiser"
RANGES = ("reduce-grads", "multiply-grads", "clip-grads", "optimizer")
"""fairseq's names for the parts of an update after the backward pass."""

STRETCHES = {"forward", "backward"}
"""fairseq's names for the other parts: their own time is Python's, between operators."""

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
"""Family → names of operators that include those they call."""

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
"""Family → names of operators; the first match counts."""

VIEWS = "views and bookkeeping"
OTHER = "other"
OUTSIDE = "outside operators"
"""The rest of the time: Python on a CPU, an idle device on a GPU."""

_VIEW = re.compile(
    r"view|reshape|transpose|permute|expand|slice|select|squeeze|as_strided|narrow|chunk|split|"
    r"::t$|::T$|alias|resolve|item|_local_scalar|is_|result_type|autograd::|Backward|AccumulateGrad"
)


class Operator(NamedTuple):
    """All calls of one operator in one family."""

    name: str
    family: str
    calls: int
    seconds: float


def family_of(name: str, ancestors: Iterable[str] = ()) -> str:
    """The family of an operator; ``ancestors`` are its callers, innermost first."""
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
    """The profiled operators, longest first; calls of the same name and family are added up."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.name in STRETCHES:
            continue
        key = (event.name, family_of(event.name, _ancestors(event)))
        found[key].append(_microseconds(event, on_gpu) / 1e6)
    added = [Operator(*key, len(times), sum(times)) for key, times in found.items()]
    return sorted((one for one in added if one.seconds > 0), key=lambda one: -one.seconds)


def _ancestors(event: Any) -> Iterator[str]:
    while event.cpu_parent is not None:
        event = event.cpu_parent
        yield event.name


def _microseconds(event: Any, on_gpu: bool) -> float:
    if not on_gpu:
        return event.self_cpu_time_total
    if hasattr(event, "self_device_time_total"):
        return event.self_device_time_total
    return event.self_cuda_time_total  # torch 2.1
