"""Attention without a delay for every new batch shape.

If cuDNN's attention is available, as on an H100, torch (2.5 or later) prefers it to its own flash
attention. cuDNN builds a plan for every new shape: on an H100, this takes about 0.3 s for a batch
of a 6L-6L model, whose update takes 0.06 s (torch 2.11). Batches of sentences differ in shape, so
that training spends most of its time on plans.
"""

import torch


def apply() -> None:
    """Disable cuDNN's attention; torch's flash and memory-efficient attention need no plans.

    For inputs that always have the same shapes, ``torch.backends.cuda.enable_cudnn_sdp(True)``
    enables it again.
    """
    if hasattr(torch.backends.cuda, "enable_cudnn_sdp"):  # torch 2.5
        torch.backends.cuda.enable_cudnn_sdp(False)
