"""Modules that write this folder's JSON files, run by hand with the authors' code on the path:

    git clone https://github.com/takase/b2t_connection && git -C b2t_connection checkout COMMIT
    PYTHONPATH=b2t_connection python -m tests.authors.makers.b2t

A file says from which repository and commit it was made. What today's Python, numpy and torch need
for code of these years stands in ``common``.
"""
