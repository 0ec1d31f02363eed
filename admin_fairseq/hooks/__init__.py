"""Hooks that observe residual connections during a forward pass; ``recorder`` also sets ω.

The model runs on fairseq's own kernels meanwhile (the reference kernels): the plugin's fused
kernels would not call every module.
"""
