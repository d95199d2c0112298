"""Static shapes: the graph with every input bound to a concrete shape."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TypeGuard

import onnx_ir as ir

from trt_mpq.errors import ModelError
from trt_mpq.graph import onnx_api
from trt_mpq.graph.control_flow import close_bodies
from trt_mpq.graph.operators import VIEWS


def bind_shapes(graph: ir.Model, shapes: Mapping[str, tuple[int, ...]]) -> ir.Model:
    """A copy of `graph` whose inputs have the shapes given, with all other shapes inferred from them or given too.

    Control flow has its bodies closed (`graph.control_flow.close_bodies`): the copy is to be looked at, not to be run.

    Args:
        graph: A prepared graph.
        shapes: Tensor name to shape: of the inputs, of which those with a static declared shape may be left out, and of
            tensors that were observed because inference ends before them (`unknown_shapes`).

    Raises:
        ModelError: A shape is missing, does not fit its input, or does not fit the graph.
    """
    bound = graph.clone()
    for value in bound.graph.inputs:
        value.shape = ir.Shape(_sample_shape(value, shapes))
    for value in bound.graph.outputs:
        value.shape = None if value.producer() is not None else value.shape
    try:
        onnx_api.infer_shapes(bound)
    except ModelError as error:
        given = ", ".join(f"{value.name} {tuple(value.shape or ())}" for value in bound.graph.inputs)
        raise ModelError(f"the model does not accept inputs of shape {given}: {error}") from error
    for value in _unknown(bound.graph):
        value.shape = ir.Shape(shapes[str(value.name)]) if value.name in shapes else value.shape
    close_bodies(bound.graph)
    return bound


def unknown_shapes(bound: ir.Model) -> tuple[str, ...]:
    """Names of the tensors whose shape `bind_shapes` could not infer, such as what a computed Range or Slice gives."""
    return tuple(str(value.name) for value in _unknown(bound.graph))


def _unknown(graph: ir.Graph) -> Iterator[ir.Value]:
    for value in (value for node in graph for value in node.outputs):
        if isinstance(value.type, ir.TensorType) and not (value.shape is not None and value.shape.is_static()):
            yield value


def _sample_shape(value: ir.Value, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    declared = tuple(value.shape or ())
    given = shapes.get(str(value.name), declared)
    fits = len(given) == len(declared) and all(
        isinstance(d, ir.SymbolicDim) or d == g for d, g in zip(declared, given, strict=True)
    )
    if not fits:
        raise ModelError(f"input {value.name} has shape {_text(declared)}, the samples have {_text(given)}")
    sizes = tuple(size for size in given if isinstance(size, int))
    if len(sizes) < len(given):
        raise ModelError(f"input {value.name} has shape {_text(declared)} and no sample that says how large it is")
    return sizes


def _text(shape: tuple[int | ir.SymbolicDim, ...]) -> str:
    return f"({', '.join(str(dim) for dim in shape)})"


def shape_of(value: ir.Value) -> tuple[int, ...]:
    """The static shape of a tensor; raises ModelError naming it if a dimension is unknown."""
    known = [dim for dim in value.shape or () if isinstance(dim, int)]
    if value.shape is None or len(known) < len(value.shape):
        producer = value.producer()
        origin = f", the output of a {producer.op_type}" if producer is not None else ""
        raise ModelError(
            f"the shape of tensor {value.name}{origin} neither follows from the shapes of the inputs nor was observed"
        )
    return tuple(known)


def elements(value: ir.Value) -> int:
    """Number of elements of a tensor with a static shape."""
    return math.prod(shape_of(value))


def viewed(value: ir.Value) -> ir.Value:
    """The tensor whose memory `value` is another shape of; `value` itself if it is no view."""
    node = value.producer()
    while node is not None and node.op_type in VIEWS and node.inputs[0] is not None:
        value = node.inputs[0]
        node = value.producer()
    return value


def is_constant(value: ir.Value | None) -> bool:
    """Whether the value is stored in the model."""
    return value is not None and value.const_value is not None


def is_float(value: ir.Value | None) -> TypeGuard[ir.Value]:
    """Whether the value is a floating-point tensor that is computed or fed, not stored."""
    return value is not None and not is_constant(value) and value.dtype is not None and value.dtype.is_floating_point()
