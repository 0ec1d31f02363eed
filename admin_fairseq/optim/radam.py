"""The optimiser ``radam``: RAdam as in the Admin release.

Source: Liu et al. 2020, https://arxiv.org/abs/1908.03265.
"""

import math

from fairseq.optim import OPTIMIZER_REGISTRY, register_optimizer

from admin_fairseq.optim.adam_options import AdamLike, AdamOptions
from admin_fairseq.optim.adam_steps import AdamSteps


class RAdam(AdamSteps):
    """Adam with rectified steps; while the rectification is undefined (ρ_t ≤ 5), only weight decay.

    The Admin release skips those steps too. torch's RAdam takes plain momentum steps instead: five
    of them with β2 = 0.98 or 0.999.
    """

    @staticmethod
    def rectification(beta2: float, step: int) -> float:
        """Return the factor r_t of update t = ``step`` (paper, section 4); 0 where undefined."""
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


if "radam" not in OPTIMIZER_REGISTRY:  # the module may be imported twice
    register_optimizer("radam", dataclass=AdamOptions)(FairseqRAdam)
