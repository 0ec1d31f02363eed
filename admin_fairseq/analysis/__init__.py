"""Measurements inside transformers that train or fail, as studies of ``admin-fairseq analyze``."""
