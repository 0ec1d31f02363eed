"""Pure tensor functions, fast, each beside its plain reference. Nothing here imports ours."""
