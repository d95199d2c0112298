"""The quantizers a plan needs, and how each flavour writes one.

Placement (TensorRT developer guide, "Q/DQ placement recommendations"): every group that runs in 8 bit
or less quantizes its anchors' data input, their constant weights, and the residual operand of the skip
Add it has absorbed; attention quantizes the four operands of its two products, right in front of them.
Outputs are left alone. One tensor has one quantizer per format, shared by all reads that want it, so DQ
followed by Q never arises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx_ir as ir

from trt_mpq.emit.blocks import insert_block_qdq, insert_fake_block_quantizer
from trt_mpq.errors import CalibrationError
from trt_mpq.graph.edit import add_constant, insert_node
from trt_mpq.graph.rounding import Chain, insert_clip, insert_float, reach_of
from trt_mpq.numerics import FloatArray, activation_scale
from trt_mpq.types import Grouping, LayerGroup, Precision, PrecisionPlan, QuantizedInput, Ranges

QuantizerWriter = Callable[[ir.Graph, ir.Value, FloatArray, Precision, str], ir.Value]
"""Puts a quantizer with a scale behind a tensor; the last argument names the new tensors."""

_FAST_CODES = frozenset({"int8"})
"""Codes whose own Q/DQ ONNX Runtime computes fast, and at every level alike."""


def quantized_groups(grouping: Grouping, plan: PrecisionPlan) -> Iterator[tuple[LayerGroup, Precision]]:
    """The groups that carry scales under `plan`, in network order."""
    precisions = plan.as_dict()
    for group in grouping.groups:
        if precisions[group.id].quantized:
            yield group, precisions[group.id]


def activation_reads(
    grouping: Grouping, plan: PrecisionPlan, ranges: Ranges
) -> Iterator[tuple[QuantizedInput, Precision, FloatArray]]:
    """Every read of an activation to quantize under `plan`, with its format and its scale, shape ``()``.

    Raises:
        CalibrationError: A tensor has no usable range for the format it needs.
    """
    for group, precision in quantized_groups(grouping, plan):
        for site in (site for site in group.inputs if precision.spec.reads(site.role)):
            observed = ranges.tensors.get(site.tensor)
            if observed is None or precision not in observed.amax:
                raise CalibrationError(
                    f"tensor {site.tensor} (read by {site.node}) was not calibrated for {precision}: calibrate again"
                )
            try:
                scale = activation_scale(observed.amax[precision], precision, grouping.top)
            except CalibrationError as error:
                raise CalibrationError(f"tensor {site.tensor} (read by {site.node}): {error}") from error
            yield site, precision, scale


def insert_qdq(graph: ir.Graph, value: ir.Value, scale: FloatArray, precision: Precision, name: str) -> ir.Value:
    """QuantizeLinear and DequantizeLinear behind `value`, in the float type of `value`."""
    if not precision.spec.between_kernels:
        return insert_block_qdq(graph, value, scale, precision, name)
    scale_value = scale_constant(graph, f"{name}_{precision}_scale", scale, value.dtype)
    zero = zero_point(graph, precision, ())
    stored = insert_node(
        graph, "QuantizeLinear", [value, scale_value, zero], f"{name}_{precision}_q",
        after=value.producer(), dtype=code_type(precision),
    )  # fmt: skip
    return insert_node(
        graph, "DequantizeLinear", [stored, scale_value, zero], f"{name}_{precision}_dq",
        after=stored.producer(), dtype=value.dtype,
    )  # fmt: skip


def insert_fake_quantizer(
    graph: ir.Graph, value: ir.Value, scale: FloatArray, precision: Precision, name: str
) -> ir.Value:
    """The same values as `insert_qdq` gives, in what ONNX Runtime computes fastest and at every level alike.

    That is its own Q/DQ for INT8, and plain arithmetic for the others: its E4M3 casts are scalar code, a Relu
    before an FP8 QuantizeLinear gets lost at its default level, and INT4 needs opset 21.
    """
    if not precision.spec.between_kernels:
        return insert_fake_block_quantizer(graph, value, scale, precision, name)
    if precision.codes.dtype in _FAST_CODES:
        return insert_qdq(graph, value, scale, precision, name)
    step = Chain(graph, value, f"{name}_{precision}")
    scale_value = add_constant(graph, f"{name}_{precision}_scale", scale)
    ratio = step("Div", value, scale_value)
    if precision.codes.even:
        rounded = insert_clip(graph, step, step("Round", ratio), precision.codes)
    else:
        low, high = reach_of(value)
        rounded = insert_float(graph, step, ratio, precision.codes, low / float(scale), high / float(scale))
    return step("Mul", rounded, scale_value)


def scale_constant(graph: ir.Graph, name: str, scale: FloatArray, dtype: ir.DataType | None) -> ir.Value:
    """A scale as an initializer of a float type."""
    return add_constant(graph, name, scale.astype(np.float32 if dtype is None else dtype.numpy()))


def code_type(precision: Precision) -> ir.DataType:
    """What a tensor of codes is in ONNX."""
    return ir.DataType.from_numpy(np.dtype(precision.codes.dtype))


def zero_point(graph: ir.Graph, precision: Precision, shape: tuple[int, ...]) -> ir.Value:
    """The zero point of every quantizer, which also tells the type of codes."""
    suffix = f"_{shape[0]}" if shape else ""
    return add_constant(graph, f"{precision}_zero{suffix}", np.zeros(shape, np.dtype(precision.codes.dtype)))
