"""Avoid cuDNN's attention, which delays training at every new batch shape.

If cuDNN's attention is available, as on an H100, torch (2.5 or later) prefers it to its own flash
attention. cuDNN builds an execution plan for every new shape: on an H100, this takes about 0.3 s
for a batch of a model with 6 encoder and 6 decoder layers, whose update takes 0.06 s (torch 2.11).
Batches of sentences differ in shape, so that training would spend most of its time on plans.
"""

import torch


def apply() -> None:
    """Disable cuDNN's attention; torch then uses its flash or memory-efficient attention.

    These two build no plan per shape. For inputs that always have the same shapes,
    ``torch.backends.cuda.enable_cudnn_sdp(True)`` enables cuDNN's attention again.
    """
    if hasattr(torch.backends.cuda, "enable_cudnn_sdp"):  # torch 2.5
        torch.backends.cuda.enable_cudnn_sdp(False)
