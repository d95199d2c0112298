"""Engines: what TensorRT makes of a plan, and what is known of it."""
