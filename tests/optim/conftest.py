"""The real commands and their tiny corpus, for runs with each optimiser."""

from tests.integration.conftest import data, run  # noqa: F401
