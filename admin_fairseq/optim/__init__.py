"""Optimisers that the releases' recipes need and fairseq lacks."""
