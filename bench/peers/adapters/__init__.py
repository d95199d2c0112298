"""One script per peer, run by the Python of the peer's own environment as `python run_PEER.py TASK.json`.

They import numpy, onnx, onnxruntime and the peer, never trt_mpq, and use the peer as its own documentation says.
"""
