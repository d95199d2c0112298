"""The ONNX model as the fake parser reads it, with the type and shape of every tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import onnx
from onnx import TensorProto

CODES = {
    TensorProto.FLOAT: "fp32",
    TensorProto.FLOAT16: "fp16",
    TensorProto.BFLOAT16: "bf16",
    TensorProto.FLOAT8E4M3FN: "fp8",
    TensorProto.INT8: "int8",
    TensorProto.UINT8: "uint8",
    TensorProto.INT32: "int32",
    TensorProto.INT64: "int64",
    TensorProto.BOOL: "bool",
}
"""ONNX element types TensorRT knows, by the names the fake uses."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class TensorInfo:
    """A tensor: its name, its type, its shape (-1: dynamic; None: unknown)."""

    name: str
    dtype: str
    shape: Shape | None


@dataclass
class Graph:
    """A model and who reads and writes each of its tensors."""

    model: onnx.ModelProto
    tensors: dict[str, TensorInfo] = field(default_factory=dict)

    @classmethod
    def of(cls, model: onnx.ModelProto, shapes: Mapping[str, Shape] | None = None) -> Graph:
        """The graph of `model`; `shapes` replaces the shapes of inputs.

        Raises:
            onnx.shape_inference.InferenceError: The model is inconsistent.
        """
        fixed = onnx.ModelProto()
        fixed.CopyFrom(model)
        for value in fixed.graph.input:
            if shapes and value.name in shapes:
                del value.type.tensor_type.shape.dim[:]
                for size in shapes[value.name]:
                    value.type.tensor_type.shape.dim.add().dim_value = size
        if shapes:
            del fixed.graph.value_info[:]
            for value in fixed.graph.output:
                value.type.tensor_type.ClearField("shape")
        inferred = onnx.shape_inference.infer_shapes(fixed, strict_mode=True, data_prop=True)
        graph = cls(model)
        for value in [*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output]:
            graph.tensors[value.name] = _info(value)
        for tensor in model.graph.initializer:
            graph.tensors[tensor.name] = TensorInfo(
                tensor.name, CODES.get(tensor.data_type, "unknown"), tuple(tensor.dims)
            )
        return graph

    @property
    def nodes(self) -> list[Any]:
        """Nodes in network order."""
        return list(self.model.graph.node)

    @cached_property
    def initializers(self) -> set[str]:
        """Names of stored constants."""
        return {tensor.name for tensor in self.model.graph.initializer}

    @cached_property
    def inputs(self) -> list[str]:
        """Names of what must be fed."""
        return [value.name for value in self.model.graph.input if value.name not in self.initializers]

    @cached_property
    def outputs(self) -> list[str]:
        """Names of the results."""
        return [value.name for value in self.model.graph.output]

    @cached_property
    def producer(self) -> dict[str, int]:
        """Tensor to the position of the node that writes it."""
        return {name: index for index, node in enumerate(self.nodes) for name in node.output if name}

    @cached_property
    def consumers(self) -> dict[str, list[int]]:
        """Tensor to the positions of the nodes that read it."""
        found: dict[str, list[int]] = {}
        for index, node in enumerate(self.nodes):
            for name in dict.fromkeys(node.input):
                if name:
                    found.setdefault(name, []).append(index)
        return found

    @cached_property
    def constants(self) -> set[str]:
        """Tensors whose value is known at build time."""
        known = set(self.initializers)
        for node in self.nodes:
            if all(name in known for name in node.input if name):
                known.update(name for name in node.output if name)
        return known

    def info(self, name: str) -> TensorInfo:
        """What is known of a tensor."""
        return self.tensors.get(name, TensorInfo(name, "unknown", None))


def attribute(node: Any, name: str, default: Any) -> Any:
    """The value of a node's attribute."""
    for found in node.attribute:
        if found.name == name:
            return onnx.helper.get_attribute_value(found)
    return default


def _info(value: Any) -> TensorInfo:
    kind = value.type.tensor_type
    shape = None
    if kind.HasField("shape"):
        shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim)
    return TensorInfo(value.name, CODES.get(kind.elem_type, "unknown"), shape)
