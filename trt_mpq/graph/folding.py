"""Constant folding: what depends on no input is computed once, however large."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import onnx.helper
import onnx.reference
import onnx_ir as ir
from onnx_ir.passes import common as passes

from trt_mpq.graph import onnx_api
from trt_mpq.graph.edit import add_constant

_INPUT_ELEMENTS = 1 << 40
"""No limit: a transposed or scaled weight is a constant, however large."""
_ADDED_ELEMENTS = 1 << 24
"""What makes more of its constants than this, as an Expand or a Tile may, stays a node and is never computed."""
_GROWING = frozenset({"Expand", "OneHot", "Pad", "Range", "Resize", "Tile", "Upsample"})
"""Operators whose output may be larger than their inputs by any factor, and of a size that inference does not tell."""
_FILLED_ELEMENTS = 1 << 12
"""ConstantOfShape stays a node above this: onnxscript never folds it, so as not to store one number many times."""
_SEVERAL_OUTPUTS = frozenset({"Split", "TopK", "Unique"})
"""Deterministic operators of several outputs, which onnxscript leaves alone: a projection split into Q, K and V."""


def fold(graph: ir.Model) -> None:
    """Fold every node whose inputs are all stored into initializers, in place; shapes are inferred on the way.

    Of an If whose condition is stored, the branch that it takes stays. What was inside may decide another one, once its
    shapes are known.
    """
    from onnxscript.optimizer import fold_constants

    folds = True
    while folds:
        bodies = len(list(graph.graphs()))
        onnx_api.infer_shapes(graph)  # folding believes recorded shapes, and exporters leave stale ones
        _fold_sizes(graph.graph)
        _share_transposes(graph.graph)
        fold_constants(
            graph, onnx_shape_inference=True, input_size_limit=_INPUT_ELEMENTS, output_size_limit=_ADDED_ELEMENTS,
            should_fold=lambda node: False if _grows_much(node) else _fills_few(node) or None,
        )  # fmt: skip
        lift_constants(graph)
        found = list(_stored(graph.graph))
        for node in found:
            _fold(graph, node)
        folds = bool(found) or bodies != len(list(graph.graphs()))


def lift_constants(graph: ir.Model) -> None:
    """Turn Constant nodes, and the initializers of bodies, into initializers of the graph, in place."""
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph)
    passes.LiftSubgraphInitializersToMainGraphPass()(graph)


def _share_transposes(graph: ir.Graph) -> None:
    """Let one node turn a constant that several turn alike, in place.

    Where an exporter unrolled a loop, every step has a Transpose of the same weight, which folding would store each.
    """
    first: dict[tuple[ir.Value | None, tuple[int, ...]], ir.Value] = {}
    for node in [node for node in graph if node.op_type == "Transpose"]:
        source, turned = node.inputs[0], node.outputs[0]
        if source is not None and source.const_value is not None and not turned.is_graph_output():
            order = tuple(node.attributes["perm"].as_ints()) if "perm" in node.attributes else ()
            kept = first.setdefault((source, order), turned)
            if kept is not turned:
                turned.replace_all_uses_with(kept)
                graph.remove(node, safe=True)


def _grows_much(node: ir.Node) -> bool:
    """Whether what the node makes of its constants is too large to be stored, or may be."""
    made = [_elements(value) for value in node.outputs]
    if None in made:
        return node.op_type in _GROWING
    read = sum(value.const_value.size for value in node.inputs if value is not None and value.const_value is not None)
    return sum(filter(None, made)) - read > _ADDED_ELEMENTS


def _elements(value: ir.Value) -> int | None:
    """Elements of a tensor, if inference tells."""
    sizes = None if value.shape is None else [size for size in value.shape if isinstance(size, int)]
    return math.prod(sizes) if sizes is not None and len(sizes) == len(value.shape or ()) else None


def _fills_few(node: ir.Node) -> bool:
    """Whether the node is a ConstantOfShape with few elements, such as the zeros that torch puts around pads."""
    shape = node.inputs[0] if node.op_type == "ConstantOfShape" else None
    return shape is not None and shape.const_value is not None and shape.const_value.numpy().prod() <= _FILLED_ELEMENTS


def _fold_sizes(graph: ir.Graph) -> None:
    """Turn single sizes of known dimensions into constants, in place, also inside bodies.

    onnxscript folds what is taken from a Shape as a vector, but not one size alone, by which exporters guard a Squeeze.
    """
    for node in list(graph.all_nodes()):
        size = _size(node) if node.op_type == "Gather" else None
        if size is not None:
            constant = add_constant(graph, f"{node.outputs[0].name}_size", np.array(size, np.int64))
            node.outputs[0].replace_all_uses_with(constant)


def _size(gather: ir.Node) -> int | None:
    """The one size that a Gather takes from a Shape, if it is known."""
    data, index = gather.inputs[:2]
    shape = None if data is None else data.producer()
    if shape is None or shape.op_type != "Shape" or index is None or index.const_value is None:
        return None
    measured = shape.inputs[0]
    if measured is None or measured.shape is None or index.const_value.size != 1 or len(index.const_value.shape) != 0:
        return None
    dims = measured.shape[shape.attributes.get_int("start", 0) : shape.attributes.get_int("end", len(measured.shape))]
    size = dims[int(index.const_value.numpy())]
    return size if isinstance(size, int) else None


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
