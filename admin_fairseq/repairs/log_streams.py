"""Log messages that contain characters that the output stream cannot encode, like ω in latin-1.

Seen in Python 3.9 to 3.12 (``logging.StreamHandler``), with which fairseq 0.12.2 and fairseq-fixed
0.12.3.1 log to standard output: a traceback is printed in place of such a message.
"""

from __future__ import annotations

import logging

from admin_fairseq.errors import writable


def apply() -> None:
    """Patch logging so that stream handlers escape characters that their stream cannot encode.

    This holds for handlers that exist already, and for later ones.
    """
    logging.StreamHandler.format = _format


def _format(handler: logging.StreamHandler, record: logging.LogRecord) -> str:
    """Format ``record``, escaping characters that the handler's stream cannot encode."""
    return writable(logging.Handler.format(handler, record), handler.stream)
