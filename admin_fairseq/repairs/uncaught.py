"""Uncaught AdminErrors end fairseq's commands with one line and status 1.

fairseq's commands catch nothing, so that Python would print a traceback; hydra prints its own,
after a line about its overrides (seen in hydra 1.0.7 to 1.3.2).
"""

from __future__ import annotations

import functools
import os
import sys
from types import TracebackType
from typing import Any, Callable, Optional

from hydra.core.utils import JobReturn

from admin_fairseq.errors import AdminError, exit_in_one_line

COMMANDS = "fairseq_cli"  # the package of fairseq's commands, which a notebook does not import
Show = Callable[[type[BaseException], BaseException, Optional[TracebackType]], None]


def apply() -> None:
    """In fairseq's commands, let Python and hydra report our errors in one line."""
    if COMMANDS in sys.modules:
        sys.excepthook = _in_one_line(sys.excepthook)
        _keep_hydra_from_reporting()


def _keep_hydra_from_reporting() -> None:
    kept = getattr(JobReturn, "return_value", None)
    if isinstance(kept, property):  # hydra 1.1 and later
        JobReturn.return_value = ending_in_one_line(kept)
    else:
        os.environ["HYDRA_FULL_ERROR"] = "1"  # leaves errors to Python


def _in_one_line(show: Show) -> Show:
    @functools.wraps(show)
    def excepthook(
        kind: type[BaseException], error: BaseException, trace: Optional[TracebackType]
    ) -> None:
        if isinstance(error, AdminError):
            sys.stderr.write(f"{error.line}\n")
        else:
            show(kind, error, trace)

    return excepthook


def ending_in_one_line(return_value: property) -> property:
    """``JobReturn.return_value``, which hydra sets to what a job returns or raises."""

    def keep(job: JobReturn, value: Any) -> None:
        if isinstance(value, AdminError):
            with exit_in_one_line():
                raise value
        return_value.__set__(job, value)

    return return_value.setter(keep)
