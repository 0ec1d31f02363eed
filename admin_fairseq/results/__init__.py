"""Training runs read back from their logs, and the table and curves made of them."""
