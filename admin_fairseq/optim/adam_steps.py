"""The steps of fairseq's adam in torch's fused kernels: the base class of adam_fused and radam."""

import functools
import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Callable, Optional

import torch
from torch.optim.adamw import adamw

from admin_fairseq.errors import AdminError
from admin_fairseq.optim.half_precision import (
    Float32Steps,
    copy_back,
    in_float32,
    in_parts,
    precise,
)
from admin_fairseq.repairs.private import add_to_each

MOMENTS = ("exp_avg", "exp_avg_sq")


class AdamSteps(Float32Steps):
    """Adam as in fairseq/optim/adam.py (Kingma and Ba 2015, https://arxiv.org/abs/1412.6980).

    m ← β1 m + (1 − β1) g,  v ← β2 v + (1 − β2) g²,
    p ← p − lr · wd · p,  p ← p − lr · r_t · √(1 − β2^t) / (1 − β1^t) · m / (√v + ε)

    in the t-th update where p has a gradient g; r_t is ``rectification(β2, t)``, 1 for Adam. If r_t
    = 0, the last of these steps is skipped.

    The state is that of fairseq's adam: m is "exp_avg", v "exp_avg_sq", t "step". t is a Python
    number, since reading t from the device would make the host wait in every update; so a CUDA
    graph cannot capture ``step``.
    """

    # fairseq asks with --fp16, where it flattens all weights into one tensor
    supports_flat_params = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, options)

    @staticmethod
    def rectification(beta2: float, step: int) -> float:
        """Return the factor r_t of the step in update t = ``step``: 1 for Adam."""
        return 1.0

    @torch.no_grad()
    def step(self, closure: Optional[Callable[[], float]] = None) -> Any:
        """Update all weights that have a gradient; raise AdminError for a sparse gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for (step, device, fused), params in self._grouped(group["params"]).items():
                for part in in_parts(params):
                    self._move(part, group, step, device, fused)
        return loss

    def _grouped(
        self, params: Iterable[torch.Tensor]
    ) -> dict[tuple[int, torch.device, bool], list[torch.Tensor]]:
        """Group the weights that have a gradient: one call of torch's kernel updates one group.

        The weights of a group share t (counting this update), the device, and whether the fused
        kernel supports them.
        """
        groups = defaultdict(list)
        for p in params:
            if p.grad is not None:
                state = self.state[p]
                if not state:
                    state["step"] = 0
                    dtype = precise(p.dtype)
                    state.update({key: torch.zeros_like(p, dtype=dtype) for key in MOMENTS})
                groups[state["step"] + 1, p.device, _fits_fused(p, p.grad, state)].append(p)
        return groups

    def _move(
        self,
        params: list[torch.Tensor],
        group: dict[str, Any],
        step: int,
        device: torch.device,
        fused: bool,
    ) -> None:
        """Update ``params`` with the options of ``group``; they share step, device and kernel."""
        states = [self.state[p] for p in params]
        weights = in_float32(params)
        beta1, beta2 = group["betas"]
        factor = self.rectification(beta2, step)
        if group["weight_decay"]:
            # not torch's p · (1 − lr · wd): in float32, 1 − 1e-7 is 1 − 1.2e-7 in every update
            add_to_each(weights, weights, -group["lr"] * group["weight_decay"])
        # torch divides √v, but not ε, by √(1 − β2^t); with a factor of 0, any ε except 0 will do
        eps = group["eps"] / math.sqrt(1 - beta2**step) if factor else 1.0
        exp_avgs, exp_avg_sqs = ([state[key] for state in states] for key in MOMENTS)
        adamw(
            weights,
            in_float32(p.grad for p in params if p.grad is not None),
            exp_avgs,
            exp_avg_sqs,
            [],
            _counts(len(params), step - 1, device if fused else torch.device("cpu")),
            fused=fused or None,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"] * factor,
            weight_decay=0.0,
            eps=eps,
            maximize=False,
        )
        copy_back(params, weights)
        for state in states:
            state["step"] = step

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Convert the state of any Adam to that of fairseq's adam; called for checkpoints too.

        In a checkpoint "step" may be a tensor (torch's Adam) or a number in the group (apex's).
        Raises AdminError if the state is not that of an Adam.
        """
        super().__setstate__(state)
        for group in self.param_groups:
            steps = group.pop("step", None)
            for p in group["params"]:
                if p in self.state:
                    self.state[p] = _of_adam(self.state[p], steps)


def _counts(number: int, value: int, device: torch.device) -> list[torch.Tensor]:
    """Make one tensor of the count ``value`` per weight, on the device; torch increments each."""
    return list(torch.full((number,), value, dtype=torch.float32, device=device).unbind())


def _of_adam(state: dict[str, Any], steps: Optional[int]) -> dict[str, Any]:
    """Return one weight's state with "step" as a number; raise AdminError if it is not Adam's.

    ``steps`` is the number of updates if the state has it not per weight but per group.
    """
    found = state if steps is None else {"step": steps, **state}
    if set(found) != {"step", *MOMENTS}:
        raise AdminError(
            f"the checkpoint's optimiser state has {', '.join(sorted(map(str, state)))} for "
            f"each weight, not step, {', '.join(MOMENTS)}: "
            "add --reset-optimizer to start without that state"
        )
    return {**found, "step": int(found["step"])}


def _fits_fused(p: torch.Tensor, gradient: torch.Tensor, state: dict[str, Any]) -> bool:
    """Return whether torch's fused kernel supports p; raise AdminError for a sparse gradient.

    The fused CPU kernel ignores strides, so those of weight, gradient and moments must agree.
    (Moments are dense, so p is dense too if it has their strides.)
    """
    if gradient.is_sparse:
        raise AdminError("a gradient is sparse, which this optimiser cannot use")
    strides = p.stride()
    return (
        has_fused_kernel(p.device.type, precise(p.dtype))
        and gradient.stride() == strides
        and all(state[key].stride() == strides for key in MOMENTS)
    )


@functools.cache
def has_fused_kernel(device: str, dtype: torch.dtype) -> bool:
    """Return whether torch has a fused Adam kernel for this device and dtype, by trying one.

    torch publishes no list; CPUs have one since torch 2.4.
    """
    p = torch.zeros(1, device=device, dtype=dtype, requires_grad=True)
    p.grad = torch.zeros_like(p)
    try:
        torch.optim.AdamW([p], fused=True).step()
    except RuntimeError:
        return False
    return True
