"""What the fake tensorrt, pycuda and pynvml packages share: one pretended GPU per process."""
