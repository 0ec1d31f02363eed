"""Tools for checkpoints: read, fold, average, compare, convert from the original Admin release."""
