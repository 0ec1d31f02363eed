"""Train and evaluate models with published settings, by running fairseq's commands."""
