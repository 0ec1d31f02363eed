"""The schedule ``linear``: linear warm-up, then linear decay until the end of training."""

from dataclasses import dataclass, field
from typing import ClassVar, List

from fairseq.dataclass import FairseqDataclass
from fairseq.optim.lr_scheduler import LR_SCHEDULER_REGISTRY, register_lr_scheduler
from omegaconf import II

from admin_fairseq.bounds import NON_NEGATIVE, Bounds, counting
from admin_fairseq.errors import AdminError
from admin_fairseq.lr_scheduler.per_update import PerUpdateSchedule


@dataclass
class LinearScheduleConfig(FairseqDataclass):
    warmup_updates: int = field(
        default=0, metadata={"help": "raise the learning rate linearly over the first N updates"}
    )
    warmup_init_lr: float = field(
        default=0.0,
        metadata={"help": "learning rate that the warm-up starts from; -1: --lr itself"},
    )
    min_lr: float = field(
        default=0.0, metadata={"help": "learning rate at --max-update, where the decay ends"}
    )
    max_update: int = II("optimization.max_update")
    lr: List[float] = II("optimization.lr")


class LinearSchedule(PerUpdateSchedule):
    """Learning rate that rises linearly to --lr, then falls linearly to --min-lr at --max-update.

    It rises from --warmup-init-lr over --warmup-updates updates. Source: the Admin release (its
    no-warm-up sweep on IWSLT). As there, --warmup-init-lr -1 (the release's default) means --lr.
    The release's default for --min-lr, also -1, makes the rates negative towards the end; 0 must
    have been meant.
    """

    bounds: ClassVar = {
        "warmup_updates": counting(0),
        "warmup_init_lr": Bounds(-1),
        "min_lr": NON_NEGATIVE,
    }

    def check(self) -> None:
        """Raise AdminError if --max-update leaves no updates for the decay."""
        if self.cfg.max_update <= self.cfg.warmup_updates:
            raise AdminError(
                "--lr-scheduler linear decays until --max-update, which must be larger than "
                f"--warmup-updates ({self.cfg.warmup_updates}), not {self.cfg.max_update}"
            )

    def lr_after(self, num_updates: int) -> float:
        """Return the learning rate after ``num_updates`` updates."""
        cfg = self.cfg
        if num_updates < cfg.warmup_updates:
            first = self.peak if cfg.warmup_init_lr < 0 else cfg.warmup_init_lr
            start, end, done = first, self.peak, num_updates / cfg.warmup_updates
        else:
            start, end = self.peak, cfg.min_lr
            done = (num_updates - cfg.warmup_updates) / (cfg.max_update - cfg.warmup_updates)
        return start + (end - start) * min(done, 1.0)


if "linear" not in LR_SCHEDULER_REGISTRY:  # the module may be imported twice
    register_lr_scheduler("linear", dataclass=LinearScheduleConfig)(LinearSchedule)
