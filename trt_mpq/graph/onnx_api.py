"""ONNX's own checker and shape inference, for a graph of any size.

Both need one protobuf message, which ends at 2 GiB, as does the version converter (`opset`). None of them looks into
weights, so large initializers travel as graph inputs of the same name, type and shape.
"""

from __future__ import annotations

from collections.abc import Container
from functools import partial

import onnx
import onnx.shape_inference
import onnx_ir as ir

from trt_mpq.errors import ModelError
from trt_mpq.workers.memory import limited_memory

_LARGE_BYTES = 8192
"""Shapes, axes and permutations, which the C API does read, are far below this."""
_PROPAGATION_BYTES = 1 << 28
"""What inference may take to follow the numbers of shapes through a graph."""


def first_line(error: BaseException) -> str:
    """What the innermost cause of `error` says, without the context lines that follow."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def in_memory(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    """The tensor itself, or a copy if its data lies in another file."""
    if not isinstance(tensor, ir.ExternalTensor):
        return tensor
    return ir.Tensor(tensor.numpy().copy(), dtype=tensor.dtype, name=tensor.name)


def light_proto(graph: ir.Model) -> onnx.ModelProto:
    """`graph` as a message in which large initializers are inputs without data; `graph` is not changed."""
    return ir.to_proto(_light(graph))


def _light(graph: ir.Model) -> ir.Model:
    light = graph.clone()
    for name, value in list(light.graph.initializers.items()):
        tensor = value.const_value
        if tensor is None:
            continue
        if tensor.nbytes <= _LARGE_BYTES:
            value.const_value = in_memory(tensor)
            continue
        value.shape, value.dtype, value.const_value = ir.Shape(tensor.shape.numpy()), tensor.dtype, None
        del light.graph.initializers[name]
        if not value.is_graph_input():
            light.graph.inputs.append(value)
    return light


def check(graph: ir.Model) -> None:
    """Run `onnx.checker`; raises ModelError with its message."""
    try:
        onnx.checker.check_model(light_proto(graph))
    except onnx.checker.ValidationError as error:
        raise ModelError(f"the graph is not valid ONNX: {first_line(error)}") from error


def infer_shapes(graph: ir.Model) -> None:
    """Recompute type and shape of every tensor in place, from the inputs' declarations.

    What the file says about computed tensors is dropped first: it may be stale. Outputs keep the sizes and names they
    are declared with, and only those that what follows from the inputs contradicts are corrected.

    Raises:
        ModelError: Shapes contradict each other; the message names the operator.
    """
    declared = {value: value.shape for value in graph.graph.outputs if value.producer() is not None}
    for node in graph.graph.all_nodes():
        for value in node.outputs:
            value.shape = None
            value.type = value.type if value.is_graph_output() else None  # a body has to say what it gives
    light = _light(graph)
    try:
        message = inferred(ir.to_proto(light), strict=True)
    except onnx.shape_inference.InferenceError as error:
        raise ModelError(f"the shapes in the model contradict each other: {first_line(error)}") from error
    for own, other in zip(graph.graphs(), ir.from_proto(message).graphs(), strict=True):
        known = ir.convenience.create_value_mapping(other, include_subgraphs=False)
        for name, value in ir.convenience.create_value_mapping(own, include_subgraphs=False).items():
            if name in known:
                value.shape, value.type = known[name].shape, known[name].type
    axes = (dim for value in graph.graph.inputs for dim in value.shape or ())
    fed = {dim.value for dim in axes if isinstance(dim, ir.SymbolicDim) and dim.value is not None}
    for value, shape in declared.items():
        value.shape = _settled(shape, value.shape, fed)


def inferred(message: onnx.ModelProto, *, strict: bool) -> onnx.ModelProto:
    """The message with shapes.

    Numbers of shapes are followed by listing every one of a vector, those that are not known too. A file of a few bytes
    may say that a vector has billions: where that takes too much memory, only shapes are followed.

    Args:
        message: The model, its large initializers as inputs.
        strict: Whether shapes that contradict each other, and operators without inference, are errors.

    Raises:
        onnx.shape_inference.InferenceError: They are, and there are some; or the message is no sound model.
    """
    infer = partial(onnx.shape_inference.infer_shapes, message, check_type=strict, strict_mode=strict)
    try:
        with limited_memory(_PROPAGATION_BYTES):
            return infer(data_prop=True)
    except MemoryError:
        return infer(data_prop=False)


def _settled(declared: ir.Shape | None, inferred: ir.Shape | None, fed: Container[str | None]) -> ir.Shape | None:
    """The shape of an output; `fed` are the names of the inputs' axes: other names are made up by the inference."""
    if inferred is None:
        return declared
    if declared is None or len(declared) != len(inferred):
        declared = ir.Shape([None] * len(inferred))
    sizes = (dim if isinstance(dim, int) else dim.value for dim in inferred)
    known = [size if isinstance(size, int) or size in fed else None for size in sizes]
    return ir.Shape([_settled_size(own, size) for own, size in zip(declared, known, strict=True)])


def _settled_size(declared: int | ir.SymbolicDim, known: int | str | None) -> int | str | None:
    if isinstance(declared, int):
        return declared if known is None else known
    return declared.value or known


def takes(node: ir.Node, index: int, dtype: ir.DataType, opset: int) -> bool:
    """Whether ONNX defines the operator of `node` for `dtype` at input `index`; yes for operators it does not know."""
    if node.domain or not onnx.defs.has(node.op_type):
        return True
    formal = onnx.defs.get_schema(node.op_type, opset).inputs
    return f"tensor({dtype.name.lower()})" in formal[min(index, len(formal) - 1)].types
