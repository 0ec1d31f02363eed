"""Repairs of fairseq where it loses data, runs code from files, or fails on today's packages.

Each module repairs one fault by patching fairseq in its function ``apply``, and says where in
fairseq the fault is and in which versions it was seen.
"""
