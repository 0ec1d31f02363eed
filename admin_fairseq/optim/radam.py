"""RAdam (Liu et al. 2020, https://arxiv.org/abs/1908.03265) with the steps of the Admin release."""

import math

from fairseq.optim import OPTIMIZER_REGISTRY, register_optimizer

from admin_fairseq.optim.adam_options import AdamLike, AdamOptions
from admin_fairseq.optim.adam_steps import AdamSteps


class RAdam(AdamSteps):
    """Adam with rectified steps. As in the release, there is only weight decay while the
    rectification is undefined (ρ_t ≤ 5).

    torch's RAdam takes plain momentum steps then: five of them with β2 = 0.98 or 0.999.
    """

    @staticmethod
    def rectification(beta2: float, step: int) -> float:
        """r_t of the RAdam paper, section 4; 0 where it is undefined."""
        longest, length = 2 / (1 - beta2) - 1, rectification_length(beta2, step)
        if length <= 5:
            return 0.0
        variance = (length - 4) * (length - 2) * longest
        return math.sqrt(variance / ((longest - 4) * (longest - 2) * length))


def rectification_length(beta2: float, step: int) -> float:
    """ρ_t = ρ_∞ − 2 t β2^t / (1 − β2^t), ρ_∞ = 2 / (1 − β2) − 1 (RAdam paper, section 4)."""
    power = beta2**step
    return 2 / (1 - beta2) - 1 - 2 * step * power / (1 - power)


class FairseqRAdam(AdamLike):
    """``--optimizer radam``, with the options of fairseq's adam."""

    optimizer_class, name = RAdam, "radam"


if "radam" not in OPTIMIZER_REGISTRY:  # the module may be imported twice
    register_optimizer("radam", dataclass=AdamOptions)(FairseqRAdam)
