"""Quantizers of a graph taken out of it, so that somebody else may put them in again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from trt_mpq.errors import ModelError
from trt_mpq.graph.edit import add_constant
from trt_mpq.graph.operators import DYNAMIC_QUANTIZE, TENSORRT_DOMAIN

_QUANTIZE, _DEQUANTIZE = frozenset({"QuantizeLinear", DYNAMIC_QUANTIZE}), "DequantizeLinear"
_INSTEAD = "/high_precision"


@dataclass(frozen=True)
class ScaleCodes:
    """Scales of blocks that are codes themselves, with one FP32 scale.

    Attributes:
        quantized: Name of the codes.
        dequantized: Name of the scales that they are turned back into, FP32.
        wide: Name of what the values are turned back into before they are cast, FP32.
        tensor_scale_name: Name of the scale of the scales.
        tensor_scale: Its value.
        constant: Stored codes; None where they are computed together with those of the values.
    """

    quantized: str
    dequantized: str
    wide: str
    tensor_scale_name: str
    tensor_scale: NDArray[Any]
    constant: ir.TensorProtocol | None


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
        scale: Its value, a scalar, one per channel along `axis`, or per block; nothing where scales are computed.
        axis: Axis of the channels or blocks; it means nothing where there is one scale.
        result: Type of what the codes are turned back into.
        constant: Stored codes where nothing quantizes them, or the constant that is quantized; else None.
        block: Elements along `axis` that share a scale; 0 where there are no blocks.
        scale_codes: How scales are stored or made that are codes; None for others.
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
    block: int = 0
    scale_codes: ScaleCodes | None = None

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
        ModelError: A quantizer has a zero point other than 0, or a scale that is computed otherwise than by a dynamic
            quantizer; or what it gives is an output of the graph.
    """
    high = model.clone()
    found = [node for node in high.graph if node.op_type == _DEQUANTIZE and not _gives_scales(node)]
    quantizers = tuple(_taken_out(high.graph, node) for node in found)
    for node in [node for node in high.graph if node.op_type in _QUANTIZE and not any(o.uses() for o in node.outputs)]:
        high.graph.remove(node, safe=True)
    high.opset_imports.pop(TENSORRT_DOMAIN, None)
    for name in [name for name, value in high.graph.initializers.items() if not list(value.uses())]:
        del high.graph.initializers[name]
    return HighPrecision(high, quantizers)


def _gives_scales(node: ir.Node) -> bool:
    """Whether what a DequantizeLinear gives is the scale of others."""
    return any(use.op_type == _DEQUANTIZE and index == 1 for use, index in node.outputs[0].uses())


def _taken_out(graph: ir.Graph, node: ir.Node) -> Quantizer:
    codes, inner = node.inputs[0], _scales_made_by(node)
    assert codes is not None
    _require_plain(node)
    last = node if inner is None else _cast_behind(node)
    result = last.outputs[0]
    before = codes.producer()
    source = codes
    if before is not None and before.op_type in _QUANTIZE:
        assert before.inputs[0] is not None
        source = before.inputs[0]
    scale = _scale(node) if inner is None else _scale(inner)
    found = Quantizer(
        tensor=str(source.name) if source.const_value is None else f"{result.name}{_INSTEAD}",
        quantized=str(codes.name),
        dequantized=str(result.name),
        reads=tuple((str(use.name), index) for use, index in result.uses()),
        codes=_dtype(codes),
        scale_name=str(scale.name),
        scale=_content(scale),
        axis=node.attributes.get_int("axis", 1),
        result=_dtype(scale) if result.dtype is None else result.dtype,
        constant=source.const_value,
        block=node.attributes.get_int("block_size", 0),
        scale_codes=None if inner is None else _scale_codes(inner, node),
    )
    instead = source if found.constant is None else _dequantized(graph, found)
    for use, index in list(result.uses()):
        use.replace_input_with(index, instead)
    for done in dict.fromkeys(one for one in (last, node, inner) if one is not None):
        graph.remove(done, safe=True)
    return found


def _scales_made_by(node: ir.Node) -> ir.Node | None:
    """The DequantizeLinear that makes the scales of another out of codes; None if they are stored."""
    made = None if node.inputs[1] is None else node.inputs[1].producer()
    return made if made is not None and made.op_type == _DEQUANTIZE else None


def _cast_behind(node: ir.Node) -> ir.Node:
    """The Cast that alone reads what `node` gives, or `node`."""
    users = [use for use, _ in node.outputs[0].uses()]
    return users[0] if len(users) == 1 and users[0].op_type == "Cast" else node


def _scale_codes(inner: ir.Node, node: ir.Node) -> ScaleCodes:
    codes, tensor_scale = inner.inputs[0], _scale(inner)
    assert codes is not None
    return ScaleCodes(
        str(codes.name), str(inner.outputs[0].name), str(node.outputs[0].name), str(tensor_scale.name),
        _content(tensor_scale), codes.const_value,
    )  # fmt: skip


def _require_plain(node: ir.Node) -> None:
    zero = node.inputs[2] if len(node.inputs) > 2 else None
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
        values = values * _steps(quantizer, values.ndim)
    return add_constant(graph, quantizer.tensor, values.astype(quantizer.result.numpy()))


def _steps(quantizer: Quantizer, axes: int) -> NDArray[Any]:
    """The scale of every stored code, in a shape that broadcasts to a constant with so many axes."""
    scale = quantizer.scale.astype(np.float32)
    if quantizer.scale_codes is not None and quantizer.scale_codes.constant is not None:
        scale = quantizer.scale_codes.constant.numpy().astype(np.float32) * quantizer.scale_codes.tensor_scale
    if quantizer.block:
        return np.repeat(scale, quantizer.block, quantizer.axis)
    others = tuple(axis for axis in range(axes) if axis != quantizer.axis)
    return np.expand_dims(scale, others) if scale.ndim else scale
