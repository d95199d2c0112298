"""Constant folding: what depends on no input is computed once, however large."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx.helper
import onnx.reference
import onnx_ir as ir
from onnx_ir.passes import common as passes

from trt_mpq.graph.edit import add_constant

_INPUT_ELEMENTS = 1 << 40
"""No limit: a transposed or scaled weight is a constant, however large."""
_OUTPUT_ELEMENTS = 1 << 24
"""Expand and Tile of a constant stay nodes above this."""
_SEVERAL_OUTPUTS = frozenset({"Split", "TopK", "Unique"})
"""Deterministic operators of several outputs, which onnxscript leaves alone: a projection split into Q, K and V."""


def fold(graph: ir.Model) -> None:
    """Fold every node whose inputs are all stored into initializers, in place; shapes are inferred on the way."""
    from onnxscript.optimizer import fold_constants

    folds = True
    while folds:
        fold_constants(
            graph, onnx_shape_inference=True, input_size_limit=_INPUT_ELEMENTS, output_size_limit=_OUTPUT_ELEMENTS
        )
        lift_constants(graph)
        found = list(_stored(graph.graph))
        folds = bool(found)
        for node in found:
            _fold(graph, node)


def lift_constants(graph: ir.Model) -> None:
    """Turn Constant nodes into initializers, in place."""
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph)


def _stored(graph: ir.Graph) -> Iterator[ir.Node]:
    for node in graph:
        inputs = [value for value in node.inputs if value is not None]
        outer = any(value.is_graph_output() for value in node.outputs)
        if node.op_type in _SEVERAL_OUTPUTS and not outer and all(value.const_value is not None for value in inputs):
            yield node


def _fold(model: ir.Model, node: ir.Node) -> None:
    """Replace one node by what ONNX's reference implementation computes for it."""
    fed = {str(value.name): value.const_value.numpy() for value in node.inputs if value and value.const_value}
    written = [value for value in node.outputs if value.uses()]
    imports = [onnx.helper.make_opsetid(node.domain, model.opset_imports[node.domain])]
    proto = ir.serde.serialize_node(node)
    names = [str(value.name) for value in written]
    function = onnx.helper.make_function("", "folded", list(fed), names, [proto], imports)
    computed = onnx.reference.ReferenceEvaluator(function).run(None, fed, attributes={})
    for value, content in zip(written, computed, strict=True):
        value.replace_all_uses_with(add_constant(model.graph, str(value.name), np.ascontiguousarray(content)))
    model.graph.remove(node, safe=True)
