"""The optimiser ``adam_fused``: fairseq's adam computed by torch's fused kernels."""

from fairseq.optim import OPTIMIZER_REGISTRY, register_optimizer
from fairseq.optim.adam import FairseqAdam

from admin_fairseq.optim.adam_options import AdamLike, AdamOptions
from admin_fairseq.optim.adam_steps import AdamSteps


class FairseqAdamFused(AdamLike):
    """``--optimizer adam_fused``, with the options, steps and checkpoints of ``--optimizer adam``.

    A run that used one of the two can be resumed with the other, without --reset-optimizer. (One
    way is excepted: from adam_fused to apex's Adam, which fairseq's adam uses if it is installed
    and which keeps the number of updates elsewhere.) Does not support --use-old-adam,
    --fp16-adam-stats, --tpu.
    """

    optimizer_class, name = AdamSteps, "adam_fused"


if "adam_fused" not in OPTIMIZER_REGISTRY:  # the module may be imported twice
    register_optimizer("adam_fused", dataclass=AdamOptions)(FairseqAdamFused)

# fairseq loads an optimiser's state only if the class that saved it has the same name; set after
# registration, since two classes of one name cannot be registered
FairseqAdamFused.__name__ = FairseqAdam.__name__
