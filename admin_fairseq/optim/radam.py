"""The optimiser ``radam``: RAdam as in the Admin release.

Source: Liu et al. 2020, https://arxiv.org/abs/1908.03265.
"""

import math
from collections.abc import Iterable
from typing import Any

from fairseq.optim import OPTIMIZER_REGISTRY, register_optimizer

from admin_fairseq.errors import AdminError
from admin_fairseq.optim.adam_options import AdamLike, AdamOptions
from admin_fairseq.optim.adam_steps import AdamSteps


class RAdam(AdamSteps):
    """Adam with rectified steps; while ρ_t ≤ 5, only weight decay.

    The paper rectifies from ρ_t > 4 on, its authors' code and the Admin release from 5, as here.
    The release skips the steps before, too; torch's RAdam takes plain momentum steps instead: five
    of them with β2 = 0.98 or 0.999.
    """

    @staticmethod
    def rectification(beta2: float, step: int) -> float:
        """Return the factor r_t of update t = ``step`` (paper, section 4); 0 while ρ_t ≤ 5."""
        longest, length = 2 / (1 - beta2) - 1, rectification_length(beta2, step)
        if length <= 5:
            return 0.0
        variance = (length - 4) * (length - 2) * longest
        return math.sqrt(variance / ((longest - 4) * (longest - 2) * length))


def rectification_length(beta2: float, step: int) -> float:
    """Return ρ_t = ρ_∞ − 2 t β2^t / (1 − β2^t) with t = ``step``, ρ_∞ = 2 / (1 − β2) − 1.

    Source: the RAdam paper, section 4.
    """
    power = beta2**step
    return 2 / (1 - beta2) - 1 - 2 * step * power / (1 - power)


class FairseqRAdam(AdamLike):
    """``--optimizer radam``, with the options of fairseq's adam."""

    optimizer_class, name = RAdam, "radam"

    def __init__(self, cfg: AdamOptions, params: Iterable[Any]) -> None:
        super().__init__(cfg, params)
        beta2 = self.optimizer_config["betas"][1]
        if beta2 <= 2 / 3:  # then ρ_∞ ≤ 5
            raise AdminError(
                f"--adam-betas: with a second number of {beta2:g}, RAdam never makes a step; it "
                "must be above 2/3, like 0.98"
            )


if "radam" not in OPTIMIZER_REGISTRY:  # the module may be imported twice
    register_optimizer("radam", dataclass=AdamOptions)(FairseqRAdam)
