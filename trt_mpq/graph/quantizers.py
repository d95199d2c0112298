"""Quantizers of a graph taken out of it, so that somebody else may put them in again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from trt_mpq.errors import ModelError
from trt_mpq.graph.edit import add_constant

_QUANTIZE, _DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
_INSTEAD = "/high_precision"


@dataclass(frozen=True)
class Quantizer:
    """A QuantizeLinear and the DequantizeLinear behind it, or the latter alone behind stored codes.

    Attributes:
        tensor: Name of what is read in their place in the graph without quantizers.
        quantized: Name of the codes.
        dequantized: Name of what they are turned back into.
        reads: Node and input number of everything that reads that.
        codes: Type of the codes.
        scale_name: Name of the scale.
        scale: Its value, a scalar, or one per channel along `axis`.
        axis: Axis of the channels; it means nothing where there is one scale.
        result: Type of what the codes are turned back into.
        constant: Stored codes where nothing quantizes them, or the constant that is quantized; else None.
    """

    tensor: str
    quantized: str
    dequantized: str
    reads: tuple[tuple[str, int], ...]
    codes: ir.DataType
    scale_name: str
    scale: NDArray[Any]
    axis: int
    result: ir.DataType
    constant: ir.TensorProtocol | None

    @property
    def stored(self) -> bool:
        """Whether the codes are a constant, so that no QuantizeLinear stands before them."""
        return self.constant is not None and self.constant.dtype is self.codes


@dataclass(frozen=True)
class HighPrecision:
    """A graph without quantizers, and those that make the quantized graph of it, in its order."""

    graph: ir.Model
    quantizers: tuple[Quantizer, ...]

    @property
    def nodes(self) -> frozenset[str]:
        """Names of the nodes of the graph."""
        return frozenset(str(node.name) for node in self.graph.graph)


def without_quantizers(model: ir.Model) -> HighPrecision:
    """`model` in high precision, and its quantizers; `model` stays as it is.

    A constant behind a quantizer becomes one with the values that the quantizer gives.

    Raises:
        ModelError: A quantizer has blocks, a zero point other than 0, or a scale that is computed; or what it gives is
            an output of the graph.
    """
    high = model.clone()
    quantizers = tuple(_taken_out(high.graph, node) for node in list(high.graph) if node.op_type == _DEQUANTIZE)
    for node in [node for node in high.graph if node.op_type == _QUANTIZE and not list(node.outputs[0].uses())]:
        high.graph.remove(node, safe=True)
    for name in [name for name, value in high.graph.initializers.items() if not list(value.uses())]:
        del high.graph.initializers[name]
    return HighPrecision(high, quantizers)


def _taken_out(graph: ir.Graph, node: ir.Node) -> Quantizer:
    codes, result = node.inputs[0], node.outputs[0]
    assert codes is not None
    _require_plain(node)
    before = codes.producer()
    source = codes
    if before is not None and before.op_type == _QUANTIZE:
        assert before.inputs[0] is not None
        source = before.inputs[0]
    found = Quantizer(
        tensor=str(source.name) if source.const_value is None else f"{result.name}{_INSTEAD}",
        quantized=str(codes.name),
        dequantized=str(result.name),
        reads=tuple((str(use.name), index) for use, index in result.uses()),
        codes=_dtype(codes),
        scale_name=str(_scale(node).name),
        scale=_content(_scale(node)),
        axis=node.attributes.get_int("axis", 1),
        result=_dtype(_scale(node)) if result.dtype is None else result.dtype,
        constant=source.const_value,
    )
    instead = source if found.constant is None else _dequantized(graph, found)
    for use, index in list(result.uses()):
        use.replace_input_with(index, instead)
    graph.remove(node, safe=True)
    return found


def _require_plain(node: ir.Node) -> None:
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    if node.attributes.get_int("block_size", 0):
        raise ModelError(f"{node.name}: quantizers with blocks cannot be added through the builder API")
    if zero is not None and np.any(_content(zero).astype(np.float32)):
        raise ModelError(f"{node.name}: TensorRT has no zero point other than 0")
    if node.outputs[0].is_graph_output():
        raise ModelError(f"{node.name}: it writes an output of the network, which the builder API cannot add")


def _scale(node: ir.Node) -> ir.Value:
    scale = node.inputs[1]
    if scale is None or scale.const_value is None:
        raise ModelError(f"{node.name}: its scale is computed, and the builder API adds constant ones")
    return scale


def _content(value: ir.Value) -> NDArray[Any]:
    assert value.const_value is not None
    return value.const_value.numpy()


def _dtype(value: ir.Value) -> ir.DataType:
    found = value.dtype if value.const_value is None else value.const_value.dtype
    assert found is not None, f"tensor {value.name} has no type"
    return found


def _dequantized(graph: ir.Graph, quantizer: Quantizer) -> ir.Value:
    """The constant that `quantizer` gives, as a constant of the graph; a float one is taken as it is."""
    assert quantizer.constant is not None
    values = quantizer.constant.numpy().astype(np.float32)
    if quantizer.stored:
        scale = quantizer.scale.astype(np.float32)
        others = tuple(axis for axis in range(values.ndim) if axis != quantizer.axis)
        values = values * (np.expand_dims(scale, others) if scale.ndim else scale)
    return add_constant(graph, quantizer.tensor, values.astype(quantizer.result.numpy()))
