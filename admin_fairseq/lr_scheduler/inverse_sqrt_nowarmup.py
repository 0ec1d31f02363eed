"""The schedule ``inverse_sqrt_nowarmup``: T-Fixup's, with the highest rate at the first update."""

import math
from dataclasses import dataclass, field
from typing import ClassVar, List

from fairseq.dataclass import FairseqDataclass
from fairseq.optim.lr_scheduler import LR_SCHEDULER_REGISTRY, register_lr_scheduler
from omegaconf import II

from admin_fairseq.bounds import counting
from admin_fairseq.lr_scheduler.per_update import PerUpdateSchedule


@dataclass
class InverseSqrtNoWarmupConfig(FairseqDataclass):
    decay_period: int = field(
        default=4000, metadata={"help": "P in lr * sqrt(P / (P + number of updates))"}
    )
    lr: List[float] = II("optimization.lr")


class InverseSqrtNoWarmup(PerUpdateSchedule):
    """The learning rate lr·sqrt(P / (P + t)) after t updates, P = --decay-period.

    Source: the release of Huang et al. 2020 (T-Fixup).
    """

    bounds: ClassVar = {"decay_period": counting(1)}

    def lr_after(self, num_updates: int) -> float:
        """Return the learning rate after ``num_updates`` updates."""
        period = self.cfg.decay_period
        return self.peak * math.sqrt(period / (period + num_updates))


if "inverse_sqrt_nowarmup" not in LR_SCHEDULER_REGISTRY:  # the module may be imported twice
    register_lr_scheduler("inverse_sqrt_nowarmup", dataclass=InverseSqrtNoWarmupConfig)(
        InverseSqrtNoWarmup
    )
