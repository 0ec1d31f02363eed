"""What a scheme names: residuals, inputs of linear maps, connections between layers."""
