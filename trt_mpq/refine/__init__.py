"""Refinement before the search: better weights and biases, same graph, same symmetric quantizers."""
