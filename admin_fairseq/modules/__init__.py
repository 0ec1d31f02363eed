"""Parts that schemes add: residual connections, inputs of linear maps, layer connections."""
