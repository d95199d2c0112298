"""ONNX's own checker and shape inference, for a graph of any size.

Both need one protobuf message, which ends at 2 GiB, as does the version converter (`opset`). None of them looks into
weights, so large initializers travel as graph inputs of the same name, type and shape.
"""

from __future__ import annotations

import onnx
import onnx.shape_inference
import onnx_ir as ir

from trt_mpq.errors import ModelError

_LARGE_BYTES = 8192
"""Shapes, axes and permutations, which the C API does read, are far below this."""


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
    return ir.to_proto(light)


def check(graph: ir.Model) -> None:
    """Run `onnx.checker`; raises ModelError with its message."""
    try:
        onnx.checker.check_model(light_proto(graph))
    except onnx.checker.ValidationError as error:
        raise ModelError(f"the graph is not valid ONNX: {first_line(error)}") from error


def infer_shapes(graph: ir.Model) -> None:
    """Recompute type and shape of every tensor in place, from the inputs' and the outputs' declarations.

    What the file says about intermediate tensors is dropped first: it may be stale.

    Raises:
        ModelError: Shapes contradict each other; the message names the operator.
    """
    declared = set(graph.graph.outputs)
    for node in graph.graph.all_nodes():
        for value in node.outputs:
            if value not in declared:
                value.shape = None
                value.type = value.type if value.is_graph_output() else None  # a body has to say what it gives
    try:
        inferred = onnx.shape_inference.infer_shapes(
            light_proto(graph), check_type=True, strict_mode=True, data_prop=True
        )
    except onnx.shape_inference.InferenceError as error:
        raise ModelError(f"the shapes in the model contradict each other: {first_line(error)}") from error
    for own, other in zip(graph.graphs(), ir.from_proto(inferred).graphs(), strict=True):
        known = ir.convenience.create_value_mapping(other, include_subgraphs=False)
        for name, value in ir.convenience.create_value_mapping(own, include_subgraphs=False).items():
            if name in known:
                value.shape, value.type = known[name].shape, known[name].type
