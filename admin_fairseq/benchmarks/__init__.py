"""Speed and memory beside stock fairseq, as the studies of ``admin-fairseq benchmark``.

``sides`` says what is compared, ``trainers`` trains it through fairseq's own ``Trainer``, ``turns``
alternates the order, ``isolated`` measures a peak in a process of its own, ``summaries`` has the
statistics; a module for each study, listed in ``table``.
"""
