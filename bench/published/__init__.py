"""The latency model against published TensorRT latencies."""
