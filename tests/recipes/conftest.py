from ..running.conftest import dry  # noqa: F401
