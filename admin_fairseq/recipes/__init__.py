"""What the rows of the published tables train with: one table, and all that is made of it."""
