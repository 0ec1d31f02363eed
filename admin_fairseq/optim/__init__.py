"""Optimisers that the authors' recipes need and fairseq does not have, and a faster Adam."""
