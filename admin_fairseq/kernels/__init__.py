"""Fast, pure tensor functions. They import nothing else of the package."""
