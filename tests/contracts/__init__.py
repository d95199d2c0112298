"""TensorRT's Python API as a contract: what the bindings really have, and what the product asks of them."""
