"""Nodes that compute what another one did, in its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from trt_mpq.graph.edit import add_constant


class Replacement:
    """Inserts FP32 nodes in front of the one that they replace, named after what it writes.

    Args:
        graph: The graph to change.
        replaced: The node; it stays until its results are replaced.
    """

    def __init__(self, graph: ir.Graph, replaced: ir.Node) -> None:
        self._graph, self._replaced = graph, replaced

    @property
    def name(self) -> str | None:
        """Name of the replaced node, for the one that is most like it."""
        return self._replaced.name

    def emit(
        self, op_type: str, inputs: Sequence[ir.Value], part: str, *, name: str | None = None, **attributes: Any
    ) -> ir.Value:
        """The output of a new node."""
        own = f"{self._replaced.outputs[0].name}.{part}"
        node = ir.node(op_type, list(inputs), attributes, name=name or own)
        node.outputs[0].name = own
        node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        self._graph.insert_before(self._replaced, node)
        return node.outputs[0]

    def constant(self, content: NDArray[Any], name: str) -> ir.Value:
        """An initializer."""
        return add_constant(self._graph, name, content)

    def transpose(self, value: ir.Value, permutation: Sequence[int], part: str) -> ir.Value:
        """`value` with its axes permuted; itself if they stay."""
        if list(permutation) == sorted(permutation):
            return value
        return self.emit("Transpose", [value], part, perm=list(permutation))

    def reshape(self, value: ir.Value, sizes: Sequence[int], part: str) -> ir.Value:
        """`value` in another shape; 0 is the size of the same axis now, -1 what is left."""
        shape = self.constant(np.array(sizes, np.int64), f"{self._replaced.outputs[0].name}.{part}.shape")
        return self.emit("Reshape", [value, shape], part)

    def unsqueeze(self, value: ir.Value, axes: Sequence[int], part: str) -> ir.Value:
        """`value` with axes of 1 in those places of the result."""
        places = self.constant(np.array(axes, np.int64), f"{self._replaced.outputs[0].name}.{part}.axes")
        return self.emit("Unsqueeze", [value, places], part)


def replace(old: ir.Value, new: ir.Value) -> None:
    """Let all that reads `old`, the user too, read `new`, which takes over its name, shape and type."""
    new.shape, new.type = old.shape, old.type
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    old.name, new.name = new.name, old.name
