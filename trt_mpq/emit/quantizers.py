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
from trt_mpq.numerics import BoolArray, FloatArray, codes, quantize_weight, scale_from_amax
from trt_mpq.types import Grouping, LayerGroup, Precision, PrecisionPlan, QuantizedInput, Ranges
from trt_mpq.types.formats import Codes

QuantizerWriter = Callable[[ir.Graph, ir.Value, FloatArray, Precision, str], ir.Value]
"""Puts a quantizer with a scale behind a tensor; the last argument names the new tensors."""

_SIGNIFICAND = 23
"""Explicit bits of the significand of float32."""
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
        after=value.producer(), dtype=_code_type(precision),
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
    if precision.codes.dtype in _FAST_CODES:
        return insert_qdq(graph, value, scale, precision, name)
    step = _Chain(graph, value, f"{name}_{precision}")
    scale_value = add_constant(graph, f"{name}_{precision}_scale", scale)
    ratio = step("Div", value, scale_value)
    if precision.codes.even:
        rounded = _insert_clip(graph, step, step("Round", ratio), precision.codes)
    else:
        low, high = _reach(value)
        rounded = _insert_float(graph, step, ratio, precision.codes, low / float(scale), high / float(scale))
    return step("Mul", rounded, scale_value)


def _insert_float(graph: ir.Graph, step: _Chain, ratio: ir.Value, to: Codes, low: float, high: float) -> ir.Value:
    """Round `ratio`, which lies between `low` and `high`, to the numbers of floating-point codes.

    Rounding to four significant bits is an addition that pushes the low bits out:
    ``c = max((2^20 - 1)|y|, 1.5 * 2^14); (c + y) - c``. It is equal to the E4M3FN cast for every float32
    magnitude up to 448, ties and subnormals included, and gives 448 up to 460 (tests/emit/test_quantizers.py goes
    through whole binades). Dekker's and Veltkamp's splittings (Dekker 1971) round ties or binade ends differently.
    """
    assert to.mantissa is not None
    bounded = max(-low, high) <= to.reach
    y = ratio if bounded else _insert_clip(graph, step, ratio, to)
    magnitude = y if low >= 0 else step("Abs", y)
    spread = np.float32(2.0 ** (_SIGNIFICAND - to.mantissa) - 1)
    floor = np.float32(1.5 * to.tiny * 2.0**_SIGNIFICAND)
    spread_out = step("Mul", magnitude, add_constant(graph, f"{to.dtype}_spread", spread))
    carrier = step("Max", spread_out, add_constant(graph, f"{to.dtype}_floor", floor))
    return step("Sub", step("Add", carrier, y), carrier)


def _insert_clip(graph: ir.Graph, step: _Chain, value: ir.Value, to: Codes) -> ir.Value:
    bounds = (add_constant(graph, f"{to.dtype}_low", np.float32(to.smallest)),)
    return step("Clip", value, *bounds, add_constant(graph, f"{to.dtype}_high", np.float32(to.largest)))


def _reach(value: ir.Value) -> tuple[float, float]:
    """Bounds of what a tensor can hold, where what it views was written by a Relu, a Clip or a Softmax.

    Rounding to FP16 or BF16 in between moves a bound by less than what `Codes.reach` leaves room for.
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
    name = f"{weight.name}_{precision}"
    quantized = quantize_weight(constant_array(weight), axis, precision, high, up=up)
    stored = add_constant(graph, f"{name}_codes", quantized.codes)
    scale_value = _scale_constant(graph, f"{name}_scale", quantized.scale, instead_of.dtype)
    zero = _zero_point(graph, precision, quantized.scale.shape)
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
    quantized, name = quantize_weight(constant_array(weight), axis, precision, up=up), f"{weight.name}_{precision}"
    if up is not None:
        weight = add_constant(graph, f"{weight.name}_learned", quantized.values)
    scale_value = _scale_constant(graph, f"{name}_scale", quantized.scale, weight.dtype)
    zero = _zero_point(graph, precision, quantized.scale.shape)
    stored = _insert_step(
        graph, "QuantizeLinear", [weight, scale_value, zero], axis, f"{name}_q", _code_type(precision), before
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


def _code_type(precision: Precision) -> ir.DataType:
    return ir.DataType.from_numpy(np.dtype(precision.codes.dtype))


def _zero_point(graph: ir.Graph, precision: Precision, shape: tuple[int, ...]) -> ir.Value:
    suffix = f"_{shape[0]}" if shape else ""
    content = codes(np.zeros(shape, np.float32), np.ones((), np.float32), precision)
    return add_constant(graph, f"{precision}_zero{suffix}", content)
