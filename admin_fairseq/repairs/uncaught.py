"""End fairseq's commands with one line after an uncaught AdminError, or after Ctrl-C.

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
    """Patch Python and hydra, in fairseq's commands, to end with one line: see ``_in_one_line``."""
    if COMMANDS in sys.modules:
        sys.excepthook = _in_one_line(sys.excepthook)
        _keep_hydra_from_reporting()


def _keep_hydra_from_reporting() -> None:
    """Keep hydra from printing its own traceback for an AdminError.

    Hydra 1.1 and later is patched; earlier versions are told to leave all errors to Python.
    """
    kept = getattr(JobReturn, "return_value", None)
    if isinstance(kept, property):  # hydra 1.1 and later
        JobReturn.return_value = ending_in_one_line(kept)
    else:
        os.environ["HYDRA_FULL_ERROR"] = "1"  # leaves errors to Python


def _in_one_line(show: Show) -> Show:
    """Wrap ``sys.excepthook`` (``show``) to print one line on standard error for an AdminError or
    a KeyboardInterrupt, whose exit status (130) Python sets itself."""

    @functools.wraps(show)
    def excepthook(
        kind: type[BaseException], error: BaseException, trace: Optional[TracebackType]
    ) -> None:
        if isinstance(error, AdminError):
            sys.stderr.write(f"{error.line}\n")
        elif issubclass(kind, KeyboardInterrupt):
            sys.stderr.write("interrupted\n")
        else:
            show(kind, error, trace)

    return excepthook


def ending_in_one_line(return_value: property) -> property:
    """Return hydra's property ``return_value`` with a setter that ends the process on AdminError.

    Hydra sets this property of its ``JobReturn`` to what a job returns or raises. The process ends
    with one line on standard error and status 1.
    """

    def keep(job: JobReturn, value: Any) -> None:
        if isinstance(value, AdminError):
            with exit_in_one_line():
                raise value
        return_value.__set__(job, value)

    return return_value.setter(keep)
