"""Read training runs from their logs, compute BLEU, and make tables and loss curves of the runs."""
