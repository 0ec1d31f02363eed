"""Speed and memory compared with stock fairseq, as studies of ``admin-fairseq benchmark``.

``sides`` defines what is compared, ``trainers`` trains it with fairseq's own ``Trainer``, ``turns``
alternates the order, ``isolated`` measures peaks in separate processes, ``summaries`` has the
statistics; each study has a module, listed in ``table``.
"""
