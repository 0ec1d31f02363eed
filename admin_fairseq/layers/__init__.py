"""The encoder layer and the decoder layer that all schemes share, and the stacks made of them."""
