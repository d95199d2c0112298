"""Quantizer placement as text: one sorted line per quantized read, fit for review in a diff."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from trt_mpq.graph.operators import MOVING


def describe_placement(graph: ir.Graph) -> str:
    """One line per tensor or weight that a DequantizeLinear gives to a compute node, and per scale that a Concat joins.

    Form: ``<reader>[<input>] <- <tensor> <code type> <per tensor | axis n [blocks of b]> scale <scale type>``, and
    ``<Concat> joins <tensor> <code type> in <its one scale | a scale n times smaller, requantized>`` where both the
    tensor and what it is joined to are quantized.
    """
    return "".join(f"{line}\n" for line in (*sorted(_lines(graph)), *sorted(_joined(graph))))


def _lines(graph: ir.Graph) -> Iterator[str]:
    for node in graph:
        if node.op_type == "DequantizeLinear":
            stored, scale = node.inputs[0], node.inputs[1]
            if stored is None or scale is None or stored.dtype is None or scale.dtype is None:
                raise ValueError(f"DequantizeLinear {node.name} lacks its input or scale")
            axis = f"axis {node.attributes['axis'].as_int()}" if "axis" in node.attributes else "per tensor"
            block = node.attributes.get_int("block_size", 0)
            lie = f"{axis} blocks of {block}" if block else axis
            for user, index in _readers(node):
                yield f"{user.name}[{index}] <- {_source(stored)} {stored.dtype.name} {lie} scale {_kept_in(scale)}"


def _joined(graph: ir.Graph) -> Iterator[str]:
    for node in graph:
        if node.op_type == "Concat":
            whole = _scales(node.outputs[0])
            for tensor in dict.fromkeys(value for value in node.inputs if value is not None):
                for codes, scale in _scales(tensor).items():
                    if codes in whole:
                        times = whole[codes] / scale
                        chosen = "its one scale" if times == 1 else f"a scale {times:.3g} times smaller, requantized"
                        yield f"{node.name} joins {tensor.name} {codes.name} in {chosen}"


def _scales(tensor: ir.Value) -> dict[ir.DataType, float]:
    """Type of codes to the one scale that `tensor` is quantized with, by whoever reads it or what moves its values."""
    found: dict[ir.DataType, float] = {}
    for node, index in tensor.uses():
        if node.op_type in MOVING and index == 0:
            found |= {codes: scale for result in node.outputs for codes, scale in _scales(result).items()}
        elif node.op_type == "QuantizeLinear" and index == 0:
            codes, stored = node.outputs[0].dtype, node.inputs[1].const_value if node.inputs[1] is not None else None
            if codes is not None and stored is not None and stored.size == 1:
                found[codes] = float(stored.numpy().reshape(()))
    return found


def _readers(dequantize: ir.Node) -> Iterator[tuple[ir.Node, int]]:
    """Who computes with what it gives: not those whose scale it is, and beyond a Cast if scales of blocks are FP32."""
    for user, index in dequantize.outputs[0].uses():
        if user.op_type == "Cast" and "block_size" in dequantize.attributes:
            yield from user.outputs[0].uses()
        elif user.op_type != "DequantizeLinear":
            yield user, index


def _kept_in(scale: ir.Value) -> str:
    """The type that scales are stored in: that of their codes, where they are codes themselves."""
    made = scale.producer()
    codes = made.inputs[0] if made is not None and made.op_type == "DequantizeLinear" else scale
    return "unknown" if codes is None or codes.dtype is None else codes.dtype.name


def _source(stored: ir.Value) -> str | None:
    """What codes stand for: the tensor that is quantized, or the constant itself."""
    quantize = stored.producer()
    return stored.name if quantize is None or quantize.inputs[0] is None else quantize.inputs[0].name
