"""Repairs of fairseq where it loses data, runs code from files, or fails on today's packages.

Each module repairs one fault and says where in fairseq it is, and in which versions it was seen.
"""
