"""Hooks that watch residual connections, on the reference kernels, which call every module."""
