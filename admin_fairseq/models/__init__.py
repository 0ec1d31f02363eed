"""The registered models (fairseq imports what lies here by itself)."""
