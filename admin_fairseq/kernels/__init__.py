"""Fast, pure tensor functions, which import nothing else of the package."""
