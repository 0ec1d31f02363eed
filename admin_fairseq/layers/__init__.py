"""The one encoder layer, the one decoder layer and the stacks of them."""
