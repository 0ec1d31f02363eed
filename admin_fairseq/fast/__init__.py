"""The fast way through a stack: layouts, attention, decoding, dropout, compiling, precision.

All of it computes the same as fairseq's own path, which ``--reference-kernels`` takes.
"""
