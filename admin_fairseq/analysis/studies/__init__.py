"""Define the studies of models, one module each; ``analysis.table`` lists them."""
