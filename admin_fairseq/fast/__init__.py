"""The fast path of encoder and decoder: layouts, attention, decoding, dropout, compiling.

All of it computes the same as fairseq's own code, which ``--reference-kernels`` selects; but for
``precision``, which rounds the matrix products where ``--autocast`` asks for it.
"""
