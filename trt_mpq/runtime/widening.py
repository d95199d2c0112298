"""BF16 networks for ONNX Runtime, which has hardly a kernel for BF16 on the CPU.

The copy computes in FP32 and rounds every result to BF16 and back, which ONNX Runtime does exactly: a Cast there and
one back in an FP32 graph round to nearest even at every optimization level (tests/runtime/test_widening.py).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from trt_mpq.graph.edit import constant_array, insert_node

_BF16, _FLOAT = ir.DataType.BFLOAT16, ir.DataType.FLOAT


def widened(graph: ir.Model) -> ir.Model:
    """A copy of the network in FP32, every BF16 result rounded; the network itself if none but Casts has BF16.

    Dequantized values stay unrounded: kernels sum codes and never store them.

    Args:
        graph: A network whose inputs and outputs are not BF16.
    """
    if not _computes_in_bf16(graph):
        return graph
    graph = graph.clone()
    for name, value in graph.graph.initializers.items():
        if value.dtype is _BF16:
            value.const_value = ir.tensor(constant_array(value).astype(np.float32), name=name)
            value.type = ir.TensorType(_FLOAT)
    for node in list(graph.graph):
        for value in node.outputs:
            if value.dtype is _BF16:
                _widen(graph.graph, node, value)
    return graph


def _computes_in_bf16(graph: ir.Model) -> bool:
    """Whether anything but a Cast reads or writes BF16, so that ONNX Runtime could not run it."""
    return any(
        value is not None and value.dtype is _BF16
        for node in graph.graph
        if node.op_type != "Cast"
        for value in (*node.inputs, *node.outputs)
    )


def _widen(graph: ir.Graph, node: ir.Node, value: ir.Value) -> None:
    readers = list(value.uses())
    if node.op_type == "Cast":
        narrow = value
    else:
        value.type = ir.TensorType(_FLOAT)
        if node.op_type == "DequantizeLinear":
            return
        narrow = _cast(graph, value, _BF16, "narrow")
    wide = _cast(graph, narrow, _FLOAT, "wide")
    for reader, index in readers:
        reader.replace_input_with(index, wide)


def _cast(graph: ir.Graph, value: ir.Value, dtype: ir.DataType, name: str) -> ir.Value:
    return insert_node(
        graph, "Cast", [value], f"{value.name}/{name}", after=value.producer(), dtype=dtype, attributes={"to": dtype}
    )
