"""RAdam (Liu et al. 2020, https://arxiv.org/abs/1908.03265) with the steps of the Admin release."""

from typing import Any, Callable, Optional

import torch
from fairseq.optim import OPTIMIZER_REGISTRY, register_optimizer

from admin_fairseq.optim.adam_options import AdamLike, AdamOptions


class RAdam(torch.optim.RAdam):
    """torch's RAdam, but as the release steps: weight decay is decoupled (p −= lr·wd·p), and
    nothing moves, decay included, while the rectification is undefined (ρ_t ≤ 5).

    torch takes plain momentum steps there: five of them with β2 = 0.98 or 0.999.
    """

    def step(self, closure: Optional[Callable[[], float]] = None) -> Optional[float]:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        given = self.param_groups
        self.param_groups = [part for group in given for part in self._parts(group)]
        try:
            super().step()
        finally:
            self.param_groups = given
        return loss

    @torch.no_grad()
    def _parts(self, group: dict[str, Any]) -> list[dict[str, Any]]:
        """The group's parameters that move, already decayed, and those that only gather moments."""
        moving, waiting = [], []
        for p in group["params"]:
            if p.grad is not None:
                step = int(self.state[p].get("step", 0)) + 1
                rectified = rectification_length(group["betas"][1], step) > 5
                (moving if rectified else waiting).append(p)
        for p in moving:
            p.mul_(1 - group["lr"] * group["weight_decay"])
        parts = {**group, "weight_decay": 0.0}
        return [{**parts, "params": moving}, {**parts, "params": waiting, "lr": 0.0}]


def rectification_length(beta2: float, step: int) -> float:
    """ρ_t = ρ_∞ − 2 t β2^t / (1 − β2^t), ρ_∞ = 2 / (1 − β2) − 1 (RAdam paper, section 4)."""
    power = beta2**step
    return 2 / (1 - beta2) - 1 - 2 * step * power / (1 - power)


class FairseqRAdam(AdamLike):
    """``--optimizer radam``, with the options of fairseq's adam."""

    optimizer_class, name = RAdam, "radam"


if "radam" not in OPTIMIZER_REGISTRY:  # the module may be imported twice
    register_optimizer("radam", dataclass=AdamOptions)(FairseqRAdam)
