"""The models that are watched are those on the bench of ``analysis``."""

from ..analysis.conftest import bench, corpus, data  # noqa: F401
