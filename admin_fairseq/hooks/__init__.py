"""Watching residual modules from outside, on reference kernels, which call every module."""
