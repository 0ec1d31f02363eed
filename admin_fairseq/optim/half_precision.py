"""Steps in float32 of weights in half precision (--memory-efficient-fp16 and -bf16).

With these options fairseq keeps no float32 copy of the weights, so each step makes one, of some
weights at a time. The moments are kept in float32.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from admin_fairseq.repairs.private import copy_to_each

MOST_COPIED = 1 << 24
"""Largest number of elements of weights that are copied to float32 at a time, and as many of their
gradients; a larger weight is copied alone."""


class Float32Steps(torch.optim.Optimizer):
    """Base class of optimisers whose steps and moments are at least float32."""

    # fairseq asks for both: the latter, as it would leave a checkpoint's moments on the CPU
    supports_memory_efficient_fp16 = True
    disable_mem_eff_fp16_loading_hack = True

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state as torch does, but without rounding its tensors to the weights' type."""
        super().load_state_dict(state_dict)
        saved, mine = (
            chain.from_iterable(group["params"] for group in groups)
            for groups in (state_dict["param_groups"], self.param_groups)
        )
        for index, p in zip(saved, mine):
            if p.dtype != precise(p.dtype):
                for name, value in self.state.get(p, {}).items():
                    if torch.is_tensor(value):
                        exact = state_dict["state"][index][name]
                        self.state[p][name] = exact.to(p.device, precise(p.dtype), copy=True)


def precise(dtype: torch.dtype) -> torch.dtype:
    """Return the type to compute steps of weights of type ``dtype`` in."""
    return torch.promote_types(dtype, torch.float32)


def in_float32(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Return copies in float32 of those in half precision, and the others themselves."""
    return [t.to(precise(t.dtype)) for t in tensors]


def copy_back(tensors: Iterable[Tensor], copies: Iterable[Tensor]) -> None:
    """Write the copies that ``in_float32`` made of ``tensors`` back to them, rounded."""
    pairs = [(tensor, copy) for tensor, copy in zip(tensors, copies) if tensor is not copy]
    if pairs:
        copy_to_each(*zip(*pairs))


def in_parts(params: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Split weights into parts of which ``in_float32`` copies at most ``MOST_COPIED`` elements.

    A part has at least one weight, and weights that are not copied do not count.
    """
    part: list[Tensor] = []
    copied = 0
    for p in params:
        size = 0 if p.dtype == precise(p.dtype) else p.numel()
        if part and copied + size > MOST_COPIED:
            yield part
            part, copied = [], 0
        part.append(p)
        copied += size
    if part:
        yield part
