"""Models in half precision as the FP32 graph that every stage reads: FP16 and BF16 values are FP32 values too.

A Cast to a half type becomes a Cast to FP32, so that what was rounded there no longer is: where to round is decided
anew. Inputs and outputs keep the types that the file declares, with a Cast at the border.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from trt_mpq.errors import ModelError
from trt_mpq.graph.edit import insert_node

_HALVES = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16})
_FLOAT = ir.DataType.FLOAT
_CHOOSING = ("to", "dtype")
"""Attributes by which operators choose the type of what they write: Cast, EyeLike, RandomNormal…"""


def widen(graph: ir.Model) -> None:
    """Turn every FP16 and BF16 tensor inside `graph` into FP32, in place; types are to be inferred anew.

    Raises:
        ModelError: An input or output is BF16, which ONNX Runtime cannot be given and does not give.
    """
    for value in (*graph.graph.inputs, *graph.graph.outputs):
        if value.dtype is ir.DataType.BFLOAT16:
            raise ModelError(
                f"{value.name} is an input or output in BF16, which ONNX Runtime does not exchange with Python: put a "
                "Cast from or to FP32 there; the inside may be BF16"
            )
    border = {value: value.dtype for value in (*graph.graph.inputs, *graph.graph.outputs) if value.dtype in _HALVES}
    for own in graph.graphs():
        for value in own.initializers.values():
            _widen_constant(value)
        for value in (*own.inputs, *own.outputs, *(value for node in own for value in node.outputs)):
            if value.dtype in _HALVES:
                value.type = ir.TensorType(_FLOAT)
        for node in own:
            _widen_attributes(node)
    for value, dtype in border.items():
        _cast_at_the_border(graph.graph, value, dtype)


def _widen_constant(value: ir.Value) -> None:
    if value.const_value is not None and value.const_value.dtype in _HALVES:
        value.const_value = _wide(value.const_value)
        value.type = ir.TensorType(_FLOAT)


def _wide(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    return ir.tensor(tensor.numpy().astype(np.float32), name=tensor.name)


def _widen_attributes(node: ir.Node) -> None:
    for name, attribute in list(node.attributes.items()):
        if name in _CHOOSING and attribute.type is ir.AttributeType.INT and attribute.as_int() in _HALVES:
            node.attributes[name] = ir.AttrInt64(name, _FLOAT)
        elif attribute.type is ir.AttributeType.TENSOR and attribute.as_tensor().dtype in _HALVES:
            node.attributes[name] = ir.AttrTensor(name, _wide(attribute.as_tensor()))


def _cast_at_the_border(graph: ir.Graph, value: ir.Value, dtype: ir.DataType | None) -> None:
    """Give an input its type back, and whoever reads it a wide copy; or an output, of a copy that has its name."""
    readers, writer = list(value.uses()), value.producer()
    if writer is None:
        value.type = ir.TensorType(dtype or _FLOAT)
        wide = insert_node(
            graph, "Cast", [value], f"{value.name}_fp32", after=None, dtype=_FLOAT, attributes={"to": _FLOAT}
        )
        for node, index in readers:
            node.replace_input_with(index, wide)
        return
    name = value.name
    value.name = f"{name}_fp32"
    narrow = insert_node(graph, "Cast", [value], str(name), after=writer, dtype=dtype, attributes={"to": dtype})
    for index, output in enumerate(graph.outputs):
        if output is value:
            graph.outputs[index] = narrow
