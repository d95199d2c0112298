"""TensorRT: the only package that names it, for 8.6 to 11. What differs between versions is asked in `api`."""
