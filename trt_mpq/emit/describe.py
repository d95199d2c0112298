"""Quantizer placement as text: one sorted line per quantized read, fit for review in a diff."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir


def describe_placement(graph: ir.Graph) -> str:
    """One line per tensor or weight that a DequantizeLinear gives to a compute node.

    Form: ``<reader>[<input>] <- <tensor> <code type> <per tensor | axis n> scale <float type>``.
    """
    return "".join(f"{line}\n" for line in sorted(_lines(graph)))


def _lines(graph: ir.Graph) -> Iterator[str]:
    for node in graph:
        if node.op_type == "DequantizeLinear":
            stored, scale = node.inputs[0], node.inputs[1]
            if stored is None or scale is None or stored.dtype is None or scale.dtype is None:
                raise ValueError(f"DequantizeLinear {node.name} lacks its input or scale")
            axis = f"axis {node.attributes['axis'].as_int()}" if "axis" in node.attributes else "per tensor"
            for user, index in node.outputs[0].uses():
                yield f"{user.name}[{index}] <- {_source(stored)} {stored.dtype.name} {axis} scale {scale.dtype.name}"


def _source(stored: ir.Value) -> str | None:
    """What codes stand for: the tensor that is quantized, or the constant itself."""
    quantize = stored.producer()
    return stored.name if quantize is None or quantize.inputs[0] is None else quantize.inputs[0].name
