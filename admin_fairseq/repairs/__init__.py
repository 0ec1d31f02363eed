"""Repairs of fairseq where it loses data, runs code from files, or fails on today's packages.

Each module repairs one fault, in its function ``apply``, and says where in fairseq it is and in
which versions it was seen. Some faults cost time only (``attention_plans``, ``batch_layouts``,
``half_copies``). ``private``, ``stand_in`` and ``unpickling`` are parts of the others.
"""
