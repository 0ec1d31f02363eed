"""fairseq's adam in torch's fused kernels."""

from fairseq.optim import OPTIMIZER_REGISTRY, register_optimizer
from fairseq.optim.adam import FairseqAdam

from admin_fairseq.optim.adam_options import AdamLike, AdamOptions
from admin_fairseq.optim.adam_steps import AdamSteps


class FairseqAdamFused(AdamLike):
    """``--optimizer adam_fused``: options, steps and checkpoints of fairseq's ``--optimizer adam``.

    A run may go on with the other of the two from a checkpoint of the one, without
    --reset-optimizer. (fairseq's adam runs apex's where that is installed, which counts its
    updates elsewhere: from ours to apex's, add --reset-optimizer.) Not for --use-old-adam,
    --fp16-adam-stats, --tpu.
    """

    optimizer_class, name = AdamSteps, "adam_fused"


if "adam_fused" not in OPTIMIZER_REGISTRY:  # the module may be imported twice
    register_optimizer("adam_fused", dataclass=AdamOptions)(FairseqAdamFused)

# fairseq loads an optimiser's state only where the class of the one that saved it has this name;
# only now, as a second class of one name cannot be registered
FairseqAdamFused.__name__ = FairseqAdam.__name__
