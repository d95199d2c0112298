"""The interface of a model: names, order, types and shapes of its inputs and outputs, which stay what the file says."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from trt_mpq.graph import onnx_api
from trt_mpq.types import TensorSpec

_ANYTHING = frozenset({"", "?", "-1", "None"})
"""Names of axes that are none: exporters write them for every size that they do not know."""

_Typed = tuple[str | None, ir.DataType | None]
_Signature = tuple[list[_Typed], list[_Typed]]


class InterfaceError(Exception):
    """A graph that is made of a model has other inputs or outputs: a defect of this program."""


@dataclass(frozen=True)
class Interface:
    """What a graph is fed and gives, in order; constants with a default are no inputs."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @classmethod
    def of(cls, graph: ir.Model) -> Interface:
        """The interface of a graph whose inputs and outputs have types and ranks."""
        fed = (value for value in graph.graph.inputs if not value.is_initializer())
        return cls(_specs(fed), _specs(graph.graph.outputs))

    def require(self, graph: ir.Model) -> None:
        """Raise InterfaceError unless `graph` has this interface."""
        found = Interface.of(graph)
        if found != self:
            raise InterfaceError(f"the model has {_text(self)} and what is made of it {_text(found)}")


def signature(graph: ir.Model) -> _Signature:
    """Names and types of the inputs and of the outputs, in order: what is known before shapes are inferred."""
    fed = [value for value in graph.graph.inputs if not value.is_initializer()]
    inputs, outputs = ([(value.name, value.dtype) for value in values] for values in (fed, graph.graph.outputs))
    return inputs, outputs


def require_signature(graph: ir.Model, wanted: _Signature) -> None:
    """Raise InterfaceError unless `graph` has the signature `wanted`; a type that is not declared may be any."""
    found = signature(graph)
    if not all(map(_fits, found, wanted)):
        raise InterfaceError(f"the model has inputs and outputs {wanted}, what is made of it {found}")


def _fits(found: list[_Typed], wanted: list[_Typed]) -> bool:
    undeclared = (None, ir.DataType.UNDEFINED)
    typed = [
        (name, made if dtype in undeclared else dtype) for (name, dtype), (_, made) in zip(wanted, found, strict=False)
    ]
    return len(found) == len(wanted) and found == typed


def free_axes(graph: ir.Model) -> None:
    """Make axes of inputs and outputs that are declared as -1, as 0 or by a placeholder such as "?" free, in place.

    Two of them that share a placeholder need not be equal: they get no name.
    """
    for value in (*graph.graph.inputs, *graph.graph.outputs):
        if value.shape is not None and not value.is_initializer():
            value.shape = ir.Shape([_size(dim) for dim in value.shape])


def tell_apart(graph: ir.Model, shapes: Mapping[str, tuple[int, ...]]) -> ir.Model:
    """`graph`, changed in place where its inputs' axes share a name and not the size: those lose the name.

    TensorRT takes axes of one name for equal ("Named Dimensions" in its developer guide) and refuses such inputs.

    Args:
        graph: A graph with inferred shapes.
        shapes: Input name to the shape of one sample; axis 0, which counts samples, equals no other axis.
    """
    sizes: dict[str, set[int]] = defaultdict(set)
    for value in graph.graph.inputs:
        for axis, dim in enumerate(value.shape or ()):
            if isinstance(dim, ir.SymbolicDim) and dim.value is not None:
                sizes[dim.value].add(shapes[str(value.name)][axis] if axis else 0)
    unequal = {name for name, found in sizes.items() if len(found) > 1}
    if unequal:
        for value in (*graph.graph.inputs, *graph.graph.outputs):
            kept = (dim if isinstance(dim, int) or dim.value not in unequal else None for dim in value.shape or ())
            value.shape = value.shape and ir.Shape(list(kept))
        onnx_api.infer_shapes(graph)
    return graph


def _size(dim: int | ir.SymbolicDim) -> int | str | None:
    if isinstance(dim, int):
        return dim if dim > 0 else None
    return None if dim.value in _ANYTHING else dim.value


def _specs(values: Iterable[ir.Value]) -> tuple[TensorSpec, ...]:
    return tuple(map(_spec, values))


def _spec(value: ir.Value) -> TensorSpec:
    assert value.name is not None
    assert value.dtype is not None
    assert value.shape is not None
    shape = tuple(dim if isinstance(dim, int) else dim.value or "?" for dim in value.shape)
    return TensorSpec(value.name, value.dtype.numpy().name, shape)


def _text(interface: Interface) -> str:
    inputs, outputs = (
        ", ".join(f"{spec.name} {spec.dtype}{list(spec.shape)}" for spec in specs)
        for specs in (interface.inputs, interface.outputs)
    )
    return f"inputs {inputs} and outputs {outputs}"
