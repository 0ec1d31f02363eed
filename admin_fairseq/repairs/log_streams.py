"""Log messages in what the stream can encode: ω is not in latin-1.

Seen in Python 3.9 to 3.12 (``logging.StreamHandler``), with which fairseq 0.12.2 and fairseq-fixed
0.12.3.1 log to standard output: in place of a message that cannot be encoded comes a traceback.
"""

from __future__ import annotations

import logging

from admin_fairseq.errors import writable


def apply() -> None:
    """Let every log handler, also those that are made later, escape what its stream lacks."""
    logging.StreamHandler.format = _format


def _format(handler: logging.StreamHandler, record: logging.LogRecord) -> str:
    return writable(logging.Handler.format(handler, record), handler.stream)
