"""Constant weights of quantized groups, as each flavour stores them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from trt_mpq.emit.quantizers import code_type, scale_constant, zero_point
from trt_mpq.graph.edit import add_constant, constant_array
from trt_mpq.numerics import BoolArray, QuantizedWeight, WeightScales, quantize_weight
from trt_mpq.types import Precision


def insert_stored_weight(
    graph: ir.Graph, quantized: QuantizedWeight, precision: Precision, name: str, *, dtype: ir.DataType, before: ir.Node
) -> ir.Value:
    """The codes of a weight as an initializer, dequantized to the float type `dtype` in front of node `before`.

    `name` begins the names of what is made.
    """
    stored, scales = add_constant(graph, f"{name}_codes", quantized.codes), quantized.scales
    if scales.tensor_scale is not None:
        return _dequantized_twice(graph, stored, scales, name, dtype, before)
    scale = scale_constant(graph, f"{name}_scale", np.asarray(scales.scale, np.float32), dtype)
    zero = [] if scales.block else [zero_point(graph, precision, scales.scale.shape)]
    return _insert_step(graph, "DequantizeLinear", [stored, scale, *zero], f"{name}_dq", dtype, before, _lie(scales))


def _dequantized_twice(
    graph: ir.Graph, stored: ir.Value, scales: WeightScales, name: str, dtype: ir.DataType, before: ir.Node
) -> ir.Value:
    """Codes whose scales are codes with one FP32 scale: both are dequantized to FP32, which TensorRT wants."""
    inner = [
        add_constant(graph, f"{name}_scale_codes", scales.scale),
        add_constant(graph, f"{name}_tensor_scale", np.asarray(scales.tensor_scale)),
    ]
    scale = _insert_step(graph, "DequantizeLinear", inner, f"{name}_scale_dq", ir.DataType.FLOAT, before)
    outer = [stored, scale]
    wide = _insert_step(graph, "DequantizeLinear", outer, f"{name}_dq", ir.DataType.FLOAT, before, _lie(scales))
    if dtype is ir.DataType.FLOAT:
        return wide
    return _insert_step(graph, "Cast", [wide], f"{name}_dq_{dtype.name.lower()}", dtype, before, {"to": dtype})


def _lie(scales: WeightScales) -> dict[str, int]:
    """Attributes that say how scales lie."""
    axis = {} if scales.axis is None else {"axis": scales.axis}
    return axis if scales.block is None else {**axis, "block_size": scales.block}


def insert_weight_qdq(
    graph: ir.Graph,
    weight: ir.Value,
    axis: int | None,
    precision: Precision,
    up: BoolArray | None,
    before: ir.Node,
    refined: QuantizedWeight | None = None,
) -> ir.Value:
    """QuantizeLinear and DequantizeLinear behind the FP32 constant `weight`, in front of node `before`.

    Whoever folds them gets the codes that `insert_stored_weight` writes, because the scales are FP32. Where `up`
    decides the rounding, or it is `refined`, the constant holds what those codes stand for, which rounding to nearest
    leaves alone.
    """
    quantized = refined or quantize_weight(constant_array(weight), axis, precision, up=up)
    name = f"{weight.name}_{precision}"
    if up is not None or refined is not None:
        weight = add_constant(graph, f"{weight.name}_learned", quantized.values)
    step, scales = np.asarray(quantized.scales.scale, np.float32), _lie(quantized.scales)
    scale_value = scale_constant(graph, f"{name}_scale", step, weight.dtype)
    parameters = [scale_value, zero_point(graph, precision, step.shape)]
    stored = _insert_step(
        graph, "QuantizeLinear", [weight, *parameters], f"{name}_q", code_type(precision), before, scales
    )
    return _insert_step(graph, "DequantizeLinear", [stored, *parameters], f"{name}_dq", weight.dtype, before, scales)


def _insert_step(
    graph: ir.Graph,
    op_type: str,
    inputs: list[ir.Value],
    output: str,
    dtype: ir.DataType | None,
    before: ir.Node,
    attributes: Mapping[str, Any] | None = None,
) -> ir.Value:
    """A part of a weight's quantizer; `inputs` are what it converts, scale and zero point, `dtype` what it gives."""
    node = ir.node(op_type, inputs, attributes, name=output)
    result = node.outputs[0]
    result.name, result.shape = output, inputs[0].shape
    result.type = None if dtype is None else ir.TensorType(dtype)
    graph.insert_before(before, node)
    return result
