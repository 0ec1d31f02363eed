"""Log messages with characters that the stream cannot encode, like ω in latin-1.

Seen in Python 3.9 to 3.12 (``logging.StreamHandler``), with which fairseq 0.12.2 and fairseq-fixed
0.12.3.1 log to standard output: instead of such a message, a traceback is printed.
"""

from __future__ import annotations

import logging

from admin_fairseq.errors import writable


def apply() -> None:
    """Let all stream handlers, present and future, escape what their stream cannot encode."""
    logging.StreamHandler.format = _format


def _format(handler: logging.StreamHandler, record: logging.LogRecord) -> str:
    return writable(logging.Handler.format(handler, record), handler.stream)
