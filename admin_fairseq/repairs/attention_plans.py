"""Attention without a pause at every new shape of a batch.

Where torch (2.5 or later) finds cuDNN's attention, as on an H100, it prefers it to its own flash
attention. cuDNN makes a plan for every shape that it has not met: on an H100, about 0.3 s for a
batch of a 6L-6L model, which then takes 0.06 s (torch 2.11). Batches of sentences differ in shape
from update to update, so that training spends its time on plans.
"""

import torch


def apply() -> None:
    """Leave cuDNN's attention out; torch's flash and memory-efficient ones need no plan.

    For models that are always given the same shapes,
    ``torch.backends.cuda.enable_cudnn_sdp(True)`` brings it back.
    """
    if hasattr(torch.backends.cuda, "enable_cudnn_sdp"):  # torch 2.5
        torch.backends.cuda.enable_cudnn_sdp(False)
