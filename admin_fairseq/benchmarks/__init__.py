"""Compare the speed and memory of this plugin with those of stock fairseq.

These are the studies of ``admin-fairseq benchmark``. ``sides`` builds the two ``fairseq-train``
commands of a comparison, called stock and ours; ``trainers`` trains them with fairseq's
``Trainer``; ``turns`` alternates their order; ``isolated`` measures peak memory in separate
processes; ``summaries`` computes statistics. Every other study has a module of its own, listed in
``table``.
"""
