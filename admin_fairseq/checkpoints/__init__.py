"""Checkpoints: read, folded, averaged, brought over from the original release."""
