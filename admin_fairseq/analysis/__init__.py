"""Measure what happens inside transformers that train or fail.

These are the studies of ``admin-fairseq analyze``.
"""
