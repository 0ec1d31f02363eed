"""The measuring room: fairseq's own ``transformer`` and ours, side by side.

``sides`` says what runs (two command lines of ``fairseq-train``), ``trainers`` runs it, ``turns``
lets several take turns, ``memory`` and ``isolated`` look at peaks, ``summaries`` has the
arithmetic. A module each has a table: what to measure, the picture, the lines to print;
``script`` turns it into a command. The commands are in the folder ``benchmarks/``.
"""
