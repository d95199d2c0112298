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

from trt_mpq.errors import CalibrationError
from trt_mpq.graph.edit import add_constant, constant_array, insert_node
from trt_mpq.graph.operators import VIEWS
from trt_mpq.numerics import CODE_RANGE, BoolArray, FloatArray, channel_amax, codes, fake_quantize, scale_from_amax
from trt_mpq.types import Grouping, LayerGroup, Precision, PrecisionPlan, QuantizedInput, Ranges

_CODE_TYPES = {
    Precision.INT8: ir.DataType.INT8,
    Precision.INT4: ir.DataType.INT4,
    Precision.FP8: ir.DataType.FLOAT8E4M3FN,
}
QuantizerWriter = Callable[[ir.Graph, ir.Value, FloatArray, Precision, str], ir.Value]
"""Puts a quantizer with a scale behind a tensor; the last argument names the new tensors."""

_E4M3_SPREAD = np.float32(2**20 - 1)
_E4M3_FLOOR = np.float32(1.5 * 2**14)
_E4M3_REACH = 460.0
"""What lies between 448 and this is rounded to 448 without being clipped (464 is the tie with 480)."""


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
        for site in group.inputs:
            observed = ranges.tensors.get(site.tensor)
            if observed is None or precision not in observed.amax:
                raise CalibrationError(
                    f"tensor {site.tensor} (read by {site.node}) was not calibrated for {precision}: calibrate again"
                )
            try:
                scale = scale_from_amax(observed.amax[precision], precision, grouping.top)
            except CalibrationError as error:
                raise CalibrationError(f"tensor {site.tensor} (read by {site.node}): {error}") from error
            yield site, precision, scale


def insert_qdq(graph: ir.Graph, value: ir.Value, scale: FloatArray, precision: Precision, name: str) -> ir.Value:
    """QuantizeLinear and DequantizeLinear behind `value`, in the float type of `value`."""
    scale_value = _scale_constant(graph, f"{name}_{precision}_scale", scale, value.dtype)
    zero = _zero_point(graph, precision, ())
    stored = insert_node(
        graph, "QuantizeLinear", [value, scale_value, zero], f"{name}_{precision}_q",
        after=value.producer(), dtype=_CODE_TYPES[precision],
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
    if precision is Precision.INT8:
        return insert_qdq(graph, value, scale, precision, name)
    step = _Chain(graph, value, f"{name}_{precision}")
    scale_value = add_constant(graph, f"{name}_{precision}_scale", scale)
    ratio = step("Div", value, scale_value)
    if precision is Precision.FP8:
        low, high = _reach(value)
        rounded = _insert_e4m3(graph, step, ratio, low / float(scale), high / float(scale))
    else:
        rounded = _insert_clip(graph, step, step("Round", ratio), precision)
    return step("Mul", rounded, scale_value)


def _insert_e4m3(graph: ir.Graph, step: _Chain, ratio: ir.Value, low: float, high: float) -> ir.Value:
    """Round `ratio`, which lies between `low` and `high`, to E4M3FN values.

    Rounding to four significant bits is an addition that pushes the low bits out:
    ``c = max((2^20 - 1)|y|, 1.5 * 2^14); (c + y) - c``. It is equal to the E4M3FN cast for every float32
    magnitude up to 448, ties and subnormals included, and gives 448 up to 460 (tests/emit/test_quantizers.py goes
    through whole binades). Dekker's and Veltkamp's splittings (Dekker 1971) round ties or binade ends differently.
    """
    bounded = max(-low, high) <= _E4M3_REACH
    y = ratio if bounded else _insert_clip(graph, step, ratio, Precision.FP8)
    magnitude = y if low >= 0 else step("Abs", y)
    spread = step("Mul", magnitude, add_constant(graph, "fp8_spread", _E4M3_SPREAD))
    carrier = step("Max", spread, add_constant(graph, "fp8_floor", _E4M3_FLOOR))
    return step("Sub", step("Add", carrier, y), carrier)


def _insert_clip(graph: ir.Graph, step: _Chain, value: ir.Value, precision: Precision) -> ir.Value:
    low, high = map(np.float32, CODE_RANGE[precision])
    bounds = add_constant(graph, f"{precision}_low", low), add_constant(graph, f"{precision}_high", high)
    return step("Clip", value, *bounds)


def _reach(value: ir.Value) -> tuple[float, float]:
    """Bounds of what a tensor can hold, where what it views was written by a Relu, a Clip or a Softmax.

    Rounding to FP16 or BF16 in between moves a bound by less than what `_E4M3_REACH` leaves room for.
    """
    node = value.producer()
    while node is not None and node.op_type in VIEWS | {"Cast"} and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    if node is not None and node.op_type == "Relu":
        return 0.0, np.inf
    if node is not None and node.op_type == "Softmax":
        return 0.0, 1.0
    if node is not None and node.op_type == "Clip":
        bounds = dict(enumerate(node.inputs))
        return _constant_or(bounds.get(1), -np.inf), _constant_or(bounds.get(2), np.inf)
    return -np.inf, np.inf


def _constant_or(value: ir.Value | None, otherwise: float) -> float:
    return otherwise if value is None or value.const_value is None else constant_array(value).item()


def insert_stored_weight(
    graph: ir.Graph,
    weight: ir.Value,
    axis: int | None,
    precision: Precision,
    high: Precision,
    up: BoolArray | None,
    *,
    instead_of: ir.Value,
    before: ir.Node,
) -> ir.Value:
    """The codes of the FP32 constant `weight` as an initializer, dequantized in front of node `before`.

    Scales are such as `high` can hold. `up` says which elements are rounded up instead of down; None rounds to nearest.
    The result has the float type of `instead_of`, the constant that the node reads now.
    """
    content = constant_array(weight)
    scale = scale_from_amax(channel_amax(content, axis), precision, high)
    name = f"{weight.name}_{precision}"
    stored = add_constant(graph, f"{name}_codes", codes(content, scale, precision, axis, up=up))
    scale_value = _scale_constant(graph, f"{name}_scale", scale, instead_of.dtype)
    zero = _zero_point(graph, precision, scale.shape)
    return _insert_step(
        graph, "DequantizeLinear", [stored, scale_value, zero], axis, f"{name}_dq", instead_of.dtype, before
    )


def insert_weight_qdq(
    graph: ir.Graph, weight: ir.Value, axis: int | None, precision: Precision, up: BoolArray | None, before: ir.Node
) -> ir.Value:
    """QuantizeLinear and DequantizeLinear behind the FP32 constant `weight`, in front of node `before`.

    Whoever folds them gets the codes that `insert_stored_weight` writes, because the scales are FP32. Where `up`
    decides the rounding, the constant holds what those codes stand for, which rounding to nearest leaves alone.
    """
    content = constant_array(weight)
    scale = scale_from_amax(channel_amax(content, axis), precision)
    name = f"{weight.name}_{precision}"
    if up is not None:
        learned = fake_quantize(content, scale, precision, axis, up=up)
        weight = add_constant(graph, f"{weight.name}_learned", learned)
    scale_value = _scale_constant(graph, f"{name}_scale", scale, weight.dtype)
    zero = _zero_point(graph, precision, scale.shape)
    stored = _insert_step(
        graph, "QuantizeLinear", [weight, scale_value, zero], axis, f"{name}_q", _CODE_TYPES[precision], before
    )
    return _insert_step(
        graph, "DequantizeLinear", [stored, scale_value, zero], axis, f"{name}_dq", weight.dtype, before
    )


def _insert_step(
    graph: ir.Graph,
    op_type: str,
    inputs: list[ir.Value],
    axis: int | None,
    output: str,
    dtype: ir.DataType | None,
    before: ir.Node,
) -> ir.Value:
    """One half of a weight's quantizer; `inputs` are what it converts, scale and zero point, `dtype` what it gives."""
    node = ir.node(op_type, inputs, {} if axis is None else {"axis": axis}, name=output)
    result = node.outputs[0]
    result.name, result.shape = output, inputs[0].shape
    result.type = None if dtype is None else ir.TensorType(dtype)
    graph.insert_before(before, node)
    return result


class _Chain:
    """Inserts one op behind another, starting behind the producer of `value`."""

    def __init__(self, graph: ir.Graph, value: ir.Value, prefix: str) -> None:
        self._graph, self._after, self._prefix = graph, value.producer(), prefix
        self._steps = 0

    def __call__(self, op_type: str, *inputs: ir.Value) -> ir.Value:
        self._steps += 1
        name = f"{self._prefix}_{self._steps}_{op_type.lower()}"
        value = insert_node(self._graph, op_type, list(inputs), name, after=self._after, dtype=ir.DataType.FLOAT)
        self._after = value.producer()
        return value


def _scale_constant(graph: ir.Graph, name: str, scale: FloatArray, dtype: ir.DataType | None) -> ir.Value:
    return add_constant(graph, name, scale.astype(np.float32 if dtype is None else dtype.numpy()))


def _zero_point(graph: ir.Graph, precision: Precision, shape: tuple[int, ...]) -> ir.Value:
    suffix = f"_{shape[0]}" if shape else ""
    content = codes(np.zeros(shape, np.float32), np.ones((), np.float32), precision)
    return add_constant(graph, f"{precision}_zero{suffix}", content)
