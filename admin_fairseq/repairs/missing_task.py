"""Report in one line that --task is missing in a command without a default, like fairseq-validate.

Seen in fairseq 0.12.2 and fairseq-fixed 0.12.3.1 (``options.parse_args_and_arch``): without --task
these commands end with a traceback and ``KeyError: None``.
"""

from __future__ import annotations

import functools
from typing import Any, Callable

from fairseq import options

from admin_fairseq.errors import AdminError


def apply() -> None:
    """Patch fairseq's option parser to raise an AdminError if --task is missing."""
    options.parse_args_and_arch = _reporting(options.parse_args_and_arch)


def _reporting(parse: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``parse_args_and_arch`` to raise AdminError in place of ``KeyError: None``.

    fairseq raises that KeyError if --task is missing.
    """

    @functools.wraps(parse)
    def parse_args_and_arch(*args: Any, **kwargs: Any) -> Any:
        try:
            return parse(*args, **kwargs)
        except KeyError as error:
            if error.args != (None,):  # None: no task was given
                raise
            raise AdminError(
                "--task is missing, and this command has no default; add the task of training: "
                "--task translation, language_modeling or masked_lm"
            ) from None

    return parse_args_and_arch
