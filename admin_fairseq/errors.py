"""The one exception that users see."""


class AdminError(SystemExit):
    """A mistake in options or files, told in one line.

    It derives from ``SystemExit`` because fairseq's commands have no place where a plugin
    could catch its own errors: uncaught, Python prints the message to standard error without
    a traceback and exits with status 1. Callers from Python catch it by its name.
    """

    def __init__(self, message: str) -> None:
        super().__init__(f"admin-fairseq: error: {message}")
