"""Constant folding: what depends on no input is computed once, however large."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import onnx.helper
import onnx.reference
import onnx_ir as ir
from onnx_ir.passes import common as passes

from trt_mpq.graph import onnx_api
from trt_mpq.graph.edit import add_constant
from trt_mpq.workers.memory import limited_memory

_INPUT_ELEMENTS = 1 << 40
"""No limit: a transposed or scaled weight is a constant, however large."""
_ADDED_BYTES = 1 << 27
"""What is stored may take this much beside twice what the file stores: a turned weight may lie beside it. What would
take more, as what an Expand or a Tile makes of its constants may, stays a node and is never computed."""
_UNKNOWN_ELEMENTS = 1 << 24
"""What inference does not tell the size of, and is not stored where it turns out to be larger."""
_TRANSIENT = 4
"""Times that folding may take of what it may store."""
_POINTER_BYTES = 8
_GROWING = frozenset({"Expand", "OneHot", "Pad", "Range", "Resize", "Tile", "Upsample"})
"""Operators whose output may be larger than their inputs by any factor, and of a size that inference does not tell."""
_KEPT = frozenset({"ConstantOfShape", "DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear"})
"""Operators that onnxscript leaves alone."""
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

    most = 2 * _stored_bytes(graph.graph) + _ADDED_BYTES
    folds = True
    while folds:
        bodies = len(list(graph.graphs()))
        onnx_api.infer_shapes(graph)  # folding believes recorded shapes, and exporters leave stale ones
        _fold_sizes(graph.graph)
        _share_transposes(graph.graph)
        room = _Room(most - _stored_bytes(graph.graph))
        with limited_memory(_TRANSIENT * most):  # onnxscript infers shapes too, and goes without where it cannot
            fold_constants(
                graph, onnx_shape_inference=True, input_size_limit=_INPUT_ELEMENTS, output_size_limit=_UNKNOWN_ELEMENTS,
                should_fold=partial(_may_fold, room=room),
            )  # fmt: skip
        lift_constants(graph)
        found = [node for node in _stored(graph.graph) if room.takes(node)]
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


class _Room:
    """What results of folding may still take.

    Args:
        left: Bytes.
    """

    def __init__(self, left: int) -> None:
        self._left = left

    def takes(self, node: ir.Node) -> bool:
        """Whether there is room for what the node makes of its constants, which is then taken.

        Constants that nothing else reads make room. What may be of any size has none.
        """
        read = [value for value in node.inputs if value is not None]
        made = [_bytes(value) for value in node.outputs]
        if None in made and node.op_type in _GROWING:
            return False
        last = sum(_nbytes(value) for value in read if len(value.uses()) == 1 and not value.is_graph_output())
        added = sum(map(_nbytes, read) if None in made else filter(None, made)) - last
        if added > self._left:
            return False
        self._left -= added
        return True


def _may_fold(node: ir.Node, room: _Room) -> bool | None:
    """Whether a node that reads constants alone may be folded; None leaves it to onnxscript's own rules."""
    if node.op_type in _KEPT:
        return _fills_few(node) or None
    return None if room.takes(node) else False


def _stored_bytes(graph: ir.Graph) -> int:
    return sum(map(_nbytes, graph.initializers.values()))


def _nbytes(value: ir.Value) -> int:
    return 0 if value.const_value is None else value.const_value.nbytes


def _bytes(value: ir.Value) -> int | None:
    """Bytes of a tensor, if inference tells; of text, its pointers."""
    sizes = None if value.shape is None else [size for size in value.shape if isinstance(size, int)]
    if sizes is None or len(sizes) < len(value.shape or ()):
        return None
    dtype = value.dtype
    width = _POINTER_BYTES if dtype is None or dtype is ir.DataType.STRING else dtype.itemsize
    return math.ceil(math.prod(sizes) * width)


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
