"""From data to ranges: observe tensors, and choose a clipping magnitude for each."""
