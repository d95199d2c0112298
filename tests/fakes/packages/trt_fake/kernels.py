"""The kernel an operator becomes: its layer type in the inspector, and its arithmetic."""

from __future__ import annotations

from math import prod
from typing import Any

from trt_fake.onnx_graph import Graph, Shape

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_KINDS = {
    "Conv": "CaskConvolution",
    "ConvTranspose": "CaskDeconvolution",
    "Gemm": "CaskGemmMatrixMultiply",
    "MatMul": "CaskGemmMatrixMultiply",
    "Cast": "Reformat",
    "MaxPool": "CaskPooling",
    "AveragePool": "CaskPooling",
    "Softmax": "SoftMax",
    "GlobalAveragePool": "Reduce",
    "ReduceMean": "Reduce",
    **dict.fromkeys(("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze"), "Shuffle"),
}


def kind(op: str) -> str:
    """Layer type of an operator's kernel."""
    return _KINDS.get(op, "PointWiseV2")


def flops(graph: Graph, node: Any) -> float:
    """Operations of a node at the shapes of `graph`: multiply-adds times two, or one per element."""
    read, written = (_size(graph.info(name).shape) for name in (node.input[0], node.output[0]))
    if node.op_type not in WEIGHTED:
        return float(written)
    weight = graph.info(node.input[1]).shape or ()
    if node.op_type == "Conv":
        return 2.0 * written * _size(weight[1:])
    if node.op_type == "ConvTranspose":
        return 2.0 * read * _size(weight[1:])
    return 2.0 * written * (graph.info(node.input[0]).shape or (1,))[-1]


def _size(shape: Shape | None) -> int:
    return prod(max(dimension, 1) for dimension in shape or ())
