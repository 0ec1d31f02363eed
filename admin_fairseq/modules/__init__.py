"""What schemes are built of: residuals, inputs of linear maps, connections between layers."""
