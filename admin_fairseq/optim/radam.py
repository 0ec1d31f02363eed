"""RAdam (Liu et al. 2020, https://arxiv.org/abs/1908.03265) with the steps of the Admin release."""

import ast
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Callable, List, Optional

import torch
from fairseq.dataclass import FairseqDataclass
from fairseq.optim import OPTIMIZER_REGISTRY, FairseqOptimizer, register_optimizer
from omegaconf import II

from admin_fairseq.errors import AdminError


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


@dataclass
class RAdamConfig(FairseqDataclass):
    adam_betas: Any = field(default="(0.9, 0.999)", metadata={"help": "betas for RAdam"})
    adam_eps: float = field(default=1e-8, metadata={"help": "epsilon for RAdam"})
    weight_decay: float = field(default=0.0, metadata={"help": "decoupled weight decay"})
    lr: List[float] = II("optimization.lr")


class FairseqRAdam(FairseqOptimizer):
    """``--optimizer radam``, with the options of fairseq's adam."""

    def __init__(self, cfg: RAdamConfig, params) -> None:
        super().__init__(cfg)
        self._optimizer = RAdam(params, **self.optimizer_config)

    @property
    def optimizer_config(self) -> dict[str, Any]:
        return {
            "lr": self.cfg.lr[0] if isinstance(self.cfg.lr, Collection) else self.cfg.lr,
            "betas": _betas(self.cfg.adam_betas),
            "eps": self.cfg.adam_eps,
            "weight_decay": self.cfg.weight_decay,
        }


def _betas(given: Any) -> tuple[float, float]:
    try:
        first, second = ast.literal_eval(given) if isinstance(given, str) else given
        if 0 <= float(first) < 1 and 0 <= float(second) < 1:
            return float(first), float(second)
    except (ValueError, TypeError, SyntaxError):
        pass
    raise AdminError(
        f"--adam-betas takes two numbers from 0 to below 1, like '(0.9, 0.98)', not {given!r}"
    )


if "radam" not in OPTIMIZER_REGISTRY:  # the module may be imported twice
    register_optimizer("radam", dataclass=RAdamConfig)(FairseqRAdam)
