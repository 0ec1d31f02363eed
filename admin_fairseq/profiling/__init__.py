"""Admin's profile (measured per-layer variances): its file, and how a run measures and uses it."""
