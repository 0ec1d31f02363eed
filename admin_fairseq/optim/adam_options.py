"""The options of fairseq's adam, and the base class of the optimisers that have them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, List

import torch
from fairseq.dataclass import FairseqDataclass
from fairseq.optim import FairseqOptimizer
from omegaconf import II

from admin_fairseq import bounds
from admin_fairseq.bounds import NON_NEGATIVE, SHARE
from admin_fairseq.errors import AdminError

BOUNDS = {"lr": NON_NEGATIVE, "adam_eps": NON_NEGATIVE, "weight_decay": NON_NEGATIVE}


@dataclass
class AdamOptions(FairseqDataclass):
    adam_betas: Any = field(
        default="(0.9, 0.999)", metadata={"help": "decay of the first and of the second moment"}
    )
    adam_eps: float = field(default=1e-8, metadata={"help": "epsilon, added to the denominator"})
    weight_decay: float = field(default=0.0, metadata={"help": "decoupled weight decay"})
    lr: List[float] = II("optimization.lr")


class AdamLike(FairseqOptimizer):
    """Base class of this plugin's optimisers, which have the options of fairseq's adam.

    A subclass names its ``optimizer_class``, a torch optimiser, which is constructed with the
    options.
    """

    optimizer_class: type[torch.optim.Optimizer]
    name: str

    def __init__(self, cfg: AdamOptions, params: Iterable[Any]) -> None:
        super().__init__(cfg)
        bounds.check(cfg, BOUNDS)
        self._optimizer = self.optimizer_class(params, **self.optimizer_config)

    @property
    def optimizer_config(self) -> dict[str, Any]:
        """The arguments that ``optimizer_class`` is constructed with."""
        return {
            "lr": self.cfg.lr[0] if isinstance(self.cfg.lr, Sequence) else self.cfg.lr,
            "betas": _betas(self.cfg.adam_betas),
            "eps": self.cfg.adam_eps,
            "weight_decay": self.cfg.weight_decay,
        }


def _betas(given: Any) -> tuple[float, float]:
    """Parse --adam-betas; raise AdminError unless they are two numbers from 0 to below 1."""
    betas = bounds.numbers(given)
    if len(betas) != 2 or not all(beta in SHARE and beta < 1 for beta in betas):
        raise AdminError(
            f"--adam-betas takes two numbers from 0 to below 1, like '(0.9, 0.98)', not {given!r}"
        )
    return float(betas[0]), float(betas[1])
