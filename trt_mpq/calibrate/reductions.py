"""Statistics of whole tensors, computed inside the graph, so that one number leaves it and not the tensor."""

from __future__ import annotations

import onnx_ir as ir

from trt_mpq.graph.edit import insert_node


def add_reduction(graph: ir.Graph, op_type: str, value: ir.Value, output: str) -> None:
    """Make ReduceMin, ReduceMax or ReduceMean of all of `value` an output of the graph, a scalar called `output`."""
    reduced = insert_node(graph, op_type, [value], output, after=value.producer(), attributes={"keepdims": 0})
    reduced.shape = ir.Shape(())
    graph.outputs.append(reduced)
