"""One table of the settings of published runs, and everything derived from it."""
