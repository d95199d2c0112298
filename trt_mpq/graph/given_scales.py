"""Quantized files (Q/DQ) as what they were made of: the network in FP32, and its magnitudes and scales.

A quantizer of what is computed copies it, or rectifies it where its codes begin at zero; one of a constant leaves the
values that its codes stand for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from trt_mpq.errors import ModelError
from trt_mpq.graph.edit import add_constant
from trt_mpq.types import GivenScales

_E4M3 = 448.0
_INTEGERS = {
    ir.DataType.INT8: (-127, 127), ir.DataType.UINT8: (0, 255), ir.DataType.INT16: (-32767, 32767),
    ir.DataType.UINT16: (0, 65535), ir.DataType.INT4: (-7, 7), ir.DataType.UINT4: (0, 15),
}  # fmt: skip
"""What codes reach; symmetric scales are those of the largest one, as TensorRT has them."""

_NOT_NEGATIVE = frozenset({"Relu", "Sigmoid", "Softmax", "HardSigmoid", "Clip"})
"""What writes nothing below zero, or says itself how far below."""

_Array = NDArray[Any]


def take_out_quantizers(graph: ir.Graph) -> tuple[dict[str, float], dict[str, GivenScales]]:
    """Turn every QuantizeLinear and DequantizeLinear into an Identity, a Relu or a constant, in place.

    Returns:
        Name of every computed tensor that was quantized to the magnitude at which that clipped it; name of every
        constant that was, and of what Transposes make of it, to its scales.

    Raises:
        ModelError: A quantizer has blocks, or a scale that is computed.
    """
    amax: dict[str, float] = {}
    given: dict[str, GivenScales] = {}
    for node in [node for node in graph if node.op_type in ("QuantizeLinear", "DequantizeLinear")]:
        source, result = node.inputs[0], node.outputs[0]
        assert source is not None
        scale, zero, codes = _parameters(node)
        if source.const_value is not None:
            if node.op_type == "DequantizeLinear":
                given.update(_scales_of(result, scale, _axis(node, source, scale)))
            convert = _quantized if node.op_type == "QuantizeLinear" else _dequantized
            content = convert(source.const_value.numpy(), *_aligned(node, source, scale, zero), codes)
            result.replace_all_uses_with(add_constant(graph, str(result.name), content), replace_graph_outputs=True)
            graph.remove(node, safe=True)
            continue
        rectifies = node.op_type == "QuantizeLinear" and _rectifies(zero, codes, source.producer())
        if node.op_type == "QuantizeLinear":
            copied = result if rectifies else source
            amax.update(dict.fromkeys(_names(copied), _reach(scale, zero, codes)))
        node.op_type = "Relu" if rectifies else "Identity"
        node.attributes.clear()
        node.resize_inputs(1)
    return amax, given


def _scales_of(constant: ir.Value, scale: _Array, axis: int | None) -> Iterator[tuple[str, GivenScales]]:
    """The scales of a constant, under its name and those that Transposes give it."""
    yield str(constant.name), GivenScales(tuple(map(float, scale.ravel())), axis)
    for turn in (use.node for use in constant.uses() if use.node.op_type == "Transpose"):
        order = turn.attributes["perm"].as_ints() if "perm" in turn.attributes else None
        if axis is None or order is not None:
            yield from _scales_of(turn.outputs[0], scale, None if axis is None else list(order or ()).index(axis))
        elif constant.shape is not None:
            yield from _scales_of(turn.outputs[0], scale, len(constant.shape) - 1 - axis)


def _rectifies(zero: _Array, codes: ir.DataType, writer: ir.Node | None) -> bool:
    """Whether a quantizer takes what is below zero to zero: ONNX Runtime's leaves out the Relu before such a one."""
    low, _ = _INTEGERS.get(codes, (-1, 1))
    return low == 0 and not np.any(zero) and (writer is None or writer.op_type not in _NOT_NEGATIVE)


def _names(value: ir.Value) -> Iterator[str]:
    """Names under which the tensor may be known once copies and casts of it are gone."""
    yield str(value.name)
    writer = value.producer()
    if writer is not None and writer.op_type in ("Cast", "Identity") and writer.inputs[0] is not None:
        yield from _names(writer.inputs[0])


def _parameters(node: ir.Node) -> tuple[_Array, _Array, ir.DataType]:
    """Scale, zero point and type of the codes."""
    scale, zero = (*node.inputs[1:], None)[:2]
    stored = None if scale is None else scale.const_value
    if stored is None or (zero is not None and zero.const_value is None):
        raise ModelError(f"node {node.name} ({node.op_type}) has a scale that is computed: TensorRT takes stored ones")
    if node.attributes.get_int("block_size", 0):
        raise ModelError(f"node {node.name} ({node.op_type}) has one scale per block: --from-qdq takes one per channel")
    floats = stored.numpy().astype(np.float32)
    if zero is None or zero.const_value is None:
        codes = node.inputs[0].dtype if node.op_type == "DequantizeLinear" and node.inputs[0] else None
        return floats, np.zeros_like(floats), codes or ir.DataType.UINT8
    return floats, zero.const_value.numpy().astype(np.float32), zero.const_value.dtype


def _aligned(node: ir.Node, source: ir.Value, scale: _Array, zero: _Array) -> tuple[_Array, _Array]:
    """Scale and zero point such that they broadcast along the axis that they are for."""
    axis = _axis(node, source, scale)
    if axis is None or source.shape is None:
        return scale.reshape(()), zero.reshape(())
    shape = [1] * len(source.shape)
    shape[axis] = -1
    return scale.reshape(shape), zero.reshape(shape)


def _axis(node: ir.Node, source: ir.Value, scale: _Array) -> int | None:
    """The axis that a scale is along; None for one scale."""
    if scale.size == 1 or source.shape is None:
        return None
    return node.attributes.get_int("axis", 1) % len(source.shape)


def _quantized(content: _Array, scale: _Array, zero: _Array, codes: ir.DataType) -> _Array:
    ratio = content.astype(np.float32) / scale
    if codes not in _INTEGERS:
        return np.asarray(np.clip(ratio, -_E4M3, _E4M3), codes.numpy())
    low, high = _INTEGERS[codes]
    low -= codes in (ir.DataType.INT8, ir.DataType.INT16, ir.DataType.INT4)  # two's complement has one more
    return np.asarray(np.clip(np.rint(ratio) + zero, low, high), codes.numpy())


def _dequantized(content: _Array, scale: _Array, zero: _Array, codes: ir.DataType) -> _Array:
    return np.asarray((content.astype(np.float32) - zero) * scale, np.float32)


def _reach(scale: _Array, zero: _Array, codes: ir.DataType) -> float:
    low, high = _INTEGERS.get(codes, (-_E4M3, _E4M3))
    return float(np.max(np.maximum(high - zero, zero - low) * scale))
