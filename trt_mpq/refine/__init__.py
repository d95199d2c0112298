"""Refinement: better weights and biases, same graph, same symmetric quantizers."""
