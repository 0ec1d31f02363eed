"""The base class of learning-rate schedules that depend only on the number of updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Optional

from fairseq.dataclass import FairseqDataclass
from fairseq.optim import FairseqOptimizer
from fairseq.optim.lr_scheduler import FairseqLRScheduler

from admin_fairseq import bounds
from admin_fairseq.bounds import NON_NEGATIVE, Bounds
from admin_fairseq.errors import AdminError


class PerUpdateSchedule(FairseqLRScheduler):
    """Base class of a schedule whose rate after each update is ``lr_after(num_updates)``.

    ``peak`` is --lr; ``bounds`` maps the schedule's other numeric options to their ranges.
    """

    bounds: ClassVar[Mapping[str, Bounds]]

    def __init__(self, cfg: FairseqDataclass, optimizer: FairseqOptimizer) -> None:
        super().__init__(cfg, optimizer)
        rates = cfg.lr if isinstance(cfg.lr, Sequence) else [cfg.lr]
        if len(rates) != 1:
            raise AdminError(f"--lr-scheduler {cfg._name} takes one --lr, not {len(rates)}")
        self.peak = rates[0]
        bounds.check(cfg, {"lr": NON_NEGATIVE, **self.bounds})
        self.check()
        self.step_update(0)

    def check(self) -> None:
        """Raise AdminError if options contradict each other, though each is within its range."""

    def lr_after(self, num_updates: int) -> float:
        """Return the learning rate after ``num_updates`` updates; a subclass defines it."""
        raise NotImplementedError

    def step(self, epoch: int, val_loss: Optional[float] = None) -> float:
        """Return the learning rate unchanged at the end of an epoch."""
        super().step(epoch, val_loss)
        return self.optimizer.get_lr()

    def step_update(self, num_updates: int) -> float:
        """Set the optimiser's learning rate after ``num_updates`` updates, and return it."""
        self.optimizer.set_lr(self.lr_after(num_updates))
        return self.optimizer.get_lr()
