"""What fairseq needs where it loses data, runs what it reads, or meets today's Python and torch.

A module for each repair: what it mends, where in fairseq, and the version it was seen in.
"""
