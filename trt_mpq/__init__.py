"""trt-mpq: sensitivity-guided mixed-precision quantization for NVIDIA TensorRT."""

__version__ = "0.1.0"
