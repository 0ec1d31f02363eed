"""Admin's profile: the file, the measurement, and the pass that makes one from the other."""
