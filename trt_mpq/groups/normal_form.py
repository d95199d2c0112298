"""How exporters spell transformers, rewritten to what the rest of the product reads.

- A Transpose of a stored tensor is folded, however large: an output projection tied to the embedding table has one.
- An Einsum that is a matrix product becomes one (`graph.einsum`).
- Q, K and V of one product become a product each (`graph.projections`, `graph.columns`).
- Masks end at -10,000, which takes a softmax to exactly zero as well as the minus infinity or the lowest FP32 number
  that exporters write, but is finite and inside the range of FP16.
- With finite masks a softmax is never NaN, so the guard that torch's exporter puts behind it goes: it would stand
  between the two products of attention, where TensorRT fuses only what it knows.

In FP32 results stay the same, except in rows that are masked altogether, which nobody reads: they become the
softmax of the scores instead of NaN, zero or a constant.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from trt_mpq.graph.columns import unpack_columns
from trt_mpq.graph.edit import add_constant, constant_array
from trt_mpq.graph.einsum import rewrite_einsum
from trt_mpq.graph.operators import MASKING
from trt_mpq.graph.projections import unpack_projection
from trt_mpq.numerics import LARGEST
from trt_mpq.types import Precision

_MASKED = np.float32(-10000)
_MASKING = MASKING | {"Sub", "Div", "Max", "Clip", "Tile", "Trilu"}
"""What stands between a softmax and the constants of its mask: other exporters than torch's compute it too."""


def to_normal_form(graph: ir.Graph) -> None:
    """Apply the rewrites of the module docstring in place; constants that nobody reads any more stay."""
    for node in list(graph):
        if node.op_type == "Transpose":
            _fold_transpose(graph, node)
        elif node.op_type == "Einsum":
            rewrite_einsum(graph, node)
        elif node.op_type == "MatMul":
            unpack_projection(graph, node)
            unpack_columns(graph, node)
        elif node.op_type == "Gemm":
            unpack_columns(graph, node)
        elif node.op_type == "Softmax" and _bound_masks(graph, node):
            _take_out_guard(graph, node)


def _fold_transpose(graph: ir.Graph, node: ir.Node) -> None:
    source, result = node.inputs[0], node.outputs[0]
    if source is None or source.const_value is None or result.is_graph_output():
        return
    permutation = node.attributes["perm"].as_ints() if "perm" in node.attributes else None
    turned = np.ascontiguousarray(np.transpose(source.const_value.numpy(), permutation))
    result.replace_all_uses_with(add_constant(graph, str(result.name), turned))
    graph.remove(node, safe=True)


def _bound_masks(graph: ir.Graph, softmax: ir.Node) -> bool:
    """Raise the infinite constants in front of `softmax`; whether that leaves none, since nothing is fed there."""
    reads, seen, fed = [(softmax, 0)], {softmax}, False
    while reads:
        node, index = reads.pop()
        value = node.inputs[index]
        if value is None or value.dtype is not ir.DataType.FLOAT:
            continue
        if value.const_value is not None:
            _raise_constant(graph, node, index, value)
            continue
        writer = value.producer()
        fed = fed or writer is None
        if writer is not None and writer.op_type in _MASKING and writer not in seen:
            seen.add(writer)
            reads += [(writer, number) for number in range(len(writer.inputs))]
    return not fed


def _raise_constant(graph: ir.Graph, node: ir.Node, index: int, value: ir.Value) -> None:
    content = constant_array(value)
    if np.any(content < -LARGEST[Precision.FP16]):
        node.replace_input_with(index, add_constant(graph, f"{value.name}_finite", np.maximum(content, _MASKED)))


def _take_out_guard(graph: ir.Graph, softmax: ir.Node) -> None:
    """Let the readers of ``Where(IsNaN(p), constant, p)`` read p, what `softmax` writes."""
    probabilities = softmax.outputs[0]
    readers = {use.node.op_type: use.node for use in probabilities.uses()}
    if readers.keys() != {"IsNaN", "Where"} or len(probabilities.uses()) != 2:
        return
    test, choice = readers["IsNaN"], readers["Where"]
    guards = choice.inputs[0] is test.outputs[0] and choice.inputs[2] is probabilities
    inside = len(test.outputs[0].uses()) == 1 and not choice.outputs[0].is_graph_output()
    if guards and inside:
        choice.outputs[0].replace_all_uses_with(probabilities)
        graph.remove([choice, test], safe=True)
