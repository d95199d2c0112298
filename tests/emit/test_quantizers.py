"""The quantizers of each flavour: bit-equal to each other, to ONNX Runtime's Q/DQ and to ml_dtypes."""

from __future__ import annotations

from functools import cache

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.emit.examples import LEVELS, emitter, prepared, run_plainly, uniform
from tests.fixtures_groups import make_group, make_grouping
from trt_mpq.emit.quantizers import (
    QuantizerWriter,
    activation_reads,
    insert_fake_quantizer,
    insert_qdq,
)
from trt_mpq.emit.weights import insert_stored_weight
from trt_mpq.errors import CalibrationError
from trt_mpq.graph.edit import add_constant, insert_node
from trt_mpq.numerics import quantize_weight
from trt_mpq.runtime.onnxruntime import OnnxRuntime
from trt_mpq.types import Precision, PrecisionPlan, Ranges, TensorRange

SCALES = [1.0, 2.0**-24, 2.0**-10, float(np.float16(0.0371)), float(np.float16(1.9)), 300.0]
CODE_TYPES = {
    Precision.INT8: TensorProto.INT8,
    Precision.INT4: TensorProto.INT4,
    Precision.FP8: TensorProto.FLOAT8E4M3FN,
}


def quantizer(scale: float, precision: Precision, writer: QuantizerWriter) -> ir.Model:
    """A graph with nothing but one quantizer."""
    x = ir.val("x", ir.DataType.FLOAT, ["n"])
    graph = ir.Graph([x], [], nodes=[], opset_imports={"": 21}, name="quantizer")
    graph.outputs.append(writer(graph, x, np.asarray(scale, np.float32), precision, "x"))
    return ir.Model(graph, ir_version=10)


def quantized(values: np.ndarray, scale: float, precision: Precision) -> np.ndarray:
    """What our reference flavour makes of `values`."""
    graph = quantizer(scale, precision, insert_fake_quantizer)
    (result,) = OnnxRuntime(2).load(graph).run({"x": values}).values()
    return result


def cast_to_e4m3(values: np.ndarray, scale: float) -> np.ndarray:
    ratio = np.clip(values / np.float32(scale), -448, 448)
    return ratio.astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * np.float32(scale)


def onnxruntime_qdq(values: np.ndarray, scale: float, code_type: int) -> np.ndarray:
    """QuantizeLinear and DequantizeLinear written with onnx's own helpers, run without any optimization."""
    zero = helper.make_tensor("zero", code_type, [], [0])
    step = numpy_helper.from_array(np.array(scale, np.float32), "step")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["y"]),
    ]
    values_info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy"]
    graph = helper.make_graph(nodes, "qdq", values_info[:1], values_info[1:], [step, zero])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return run_plainly(proto.SerializeToString(), {"x": values}, "ORT_DISABLE_ALL")["y"]


@cache
def boundaries(precision: Precision) -> np.ndarray:
    """Every value of the format, every midpoint, the next floats on both sides of each, and what saturates."""
    if precision is Precision.FP8:
        codes = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    else:
        codes = np.arange(-128, 128, dtype=np.float32) if precision is Precision.INT8 else np.arange(-8, 8.0)
    levels = np.unique(codes[np.isfinite(codes)]).astype(np.float32)
    exact = np.concatenate([levels, (levels[1:] + levels[:-1]) / 2, [levels[-1] * 1.04, -levels[-1] * 1.04]])
    extra = np.float32([0.0, -0.0, 1e-45, -1e-45, 1e-38, 3e4, -3e4, 1e30, -1e30, np.inf, -np.inf])
    around = [np.nextafter(exact, np.float32(sign * np.inf)) for sign in (1, -1)]
    return np.concatenate([exact, *around, extra]).astype(np.float32)


@pytest.mark.parametrize("exponent", [-11, -10, -7, -6, 0, 8])
def test_e4m3_arithmetic_equals_the_cast_for_every_float_of_a_binade(exponent: int) -> None:
    """All 2^23 mantissas and both signs: below the smallest code, subnormal, normal, and the last binade."""
    bits = np.arange(1 << 23, dtype=np.uint32) | np.uint32(exponent + 127 << 23)
    values = bits.view(np.float32)
    expected = np.clip(values, -448, 448).astype(ml_dtypes.float8_e4m3fn).astype(np.float32)
    np.testing.assert_array_equal(quantized(values, 1.0, Precision.FP8), expected)
    np.testing.assert_array_equal(quantized(-values, 1.0, Precision.FP8), -expected)


@pytest.mark.parametrize("scale", SCALES)
def test_e4m3_arithmetic_equals_ml_dtypes_at_every_boundary(scale: float) -> None:
    with np.errstate(over="ignore"):
        values = boundaries(Precision.FP8) * np.float32(scale)
        expected = cast_to_e4m3(values, scale)
    np.testing.assert_array_equal(quantized(values, scale, Precision.FP8), expected)


def test_e4m3_arithmetic_saturates_just_above_the_last_value_without_a_clip() -> None:
    """Every float from 448 to 460, and what a Clip or a Relu lets through."""
    values = np.arange(np.float32(448).view(np.uint32), np.float32(460).view(np.uint32) + 1, dtype=np.uint32)
    assert set(behind("Clip", values.view(np.float32), -460.0, 460.0)) == {448.0}


@pytest.mark.parametrize(
    ("operator", "bounds", "saved"),
    [
        ("Relu", (), {"Abs"}),
        ("Clip", (0.0, 6.0), {"Abs", "Clip"}),
        ("Clip", (-3.0, 4.0), {"Clip"}),
        ("Clip", (0.0, 6.3), {"Abs"}),
        ("Clip", (-7.0, 6.0), set()),
        ("Clip", (0.5,), {"Abs"}),
        ("Neg", (), set()),
    ],
)
def test_known_bounds_save_steps_and_change_nothing(operator: str, bounds: tuple[float, ...], saved: set[str]) -> None:
    scale = float(np.float16(6 / 448))
    values = np.concatenate([boundaries(Precision.FP8)[:-11] * np.float32(scale), np.linspace(-9, 9, 10_001)])
    values = values.astype(np.float32)
    limited = {
        "Relu": lambda: np.maximum(values, 0),
        "Clip": lambda: np.clip(values, np.float32(bounds[0]), np.float32(bounds[1] if bounds[1:] else np.inf)),
        "Neg": lambda: -values,
    }[operator]()
    np.testing.assert_array_equal(behind(operator, values, *bounds, scale=scale), cast_to_e4m3(limited, scale))
    written = [node.op_type for node in quantizer_behind(operator, *bounds, scale=scale).graph][1:]
    assert {"Abs", "Clip"} - set(written) == saved


def quantizer_behind(operator: str, *bounds: float, scale: float) -> ir.Model:
    """A graph that quantizes to FP8 what one operator gives."""
    x = ir.val("x", ir.DataType.FLOAT, ["n"])
    graph = ir.Graph([x], [], nodes=[], opset_imports={"": 19}, name="quantizer")
    constants = [add_constant(graph, f"bound{i}", np.float32(bound)) for i, bound in enumerate(bounds)]
    value = insert_node(graph, operator, [x, *constants], "limited", after=None)
    graph.outputs.append(insert_fake_quantizer(graph, value, np.asarray(scale, np.float32), Precision.FP8, "x"))
    return ir.Model(graph, ir_version=9)


def behind(operator: str, values: np.ndarray, *bounds: float, scale: float = 1.0) -> np.ndarray:
    (result,) = OnnxRuntime(2).load(quantizer_behind(operator, *bounds, scale=scale)).run({"x": values}).values()
    return result


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.INT4])
@pytest.mark.parametrize("scale", SCALES)
def test_integer_arithmetic_rounds_half_to_even_at_every_boundary(precision: Precision, scale: float) -> None:
    low, high = {Precision.INT8: (-128, 127), Precision.INT4: (-8, 7)}[precision]
    with np.errstate(over="ignore"):
        values = boundaries(precision) * np.float32(scale)
        ratios = values / np.float32(scale)
    steps = [round(float(ratio)) if np.isfinite(ratio) else float(ratio) for ratio in ratios]
    expected = np.clip(steps, low, high).astype(np.float32) * np.float32(scale)
    np.testing.assert_array_equal(quantized(values, scale, precision), expected)


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.INT4, Precision.FP8])
@pytest.mark.parametrize("scale", SCALES)
def test_arithmetic_equals_the_qdq_of_onnx_runtime(precision: Precision, scale: float) -> None:
    values = boundaries(precision) * np.float32(scale)
    values = values[np.abs(values / np.float32(scale)) < 2**30]  # beyond int32 ONNX Runtime wraps around
    random = np.random.default_rng(1).standard_normal(10_000).astype(np.float32) * np.float32(scale * 60)
    values = np.concatenate([values, random])
    expected = onnxruntime_qdq(values, scale, CODE_TYPES[precision])
    np.testing.assert_array_equal(quantized(values, scale, precision), expected)


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.INT4, Precision.FP8])
@pytest.mark.parametrize("level", LEVELS)
def test_arithmetic_and_written_qdq_mean_the_same_at_every_level(precision: Precision, level: str) -> None:
    values = boundaries(precision)[:-4] * np.float32(0.25)
    (arithmetic,) = run_plainly(quantizer(0.25, precision, insert_fake_quantizer), {"x": values}, level).values()
    (written,) = run_plainly(quantizer(0.25, precision, insert_qdq), {"x": values}, level).values()
    np.testing.assert_array_equal(arithmetic, written)
    np.testing.assert_array_equal(arithmetic, quantized(values, 0.25, precision))


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.INT4, Precision.FP8])
def test_stored_weights_agree_at_every_optimization_level(precision: Precision) -> None:
    """No level folds codes differently, as it may a QuantizeLinear on a constant.

    ONNX Runtime's Q/DQ passes are off, as in our sessions: from EXTENDED up they quantize the other operand too.
    """
    random = np.random.default_rng(0)
    weight = random.standard_normal((20, 12)).astype(np.float32)
    x = ir.val("x", ir.DataType.FLOAT, ["n", 20])
    graph = ir.Graph([x], [], nodes=[], opset_imports={"": 21}, name="product")
    source = add_constant(graph, "weight", weight)
    product = insert_node(graph, "MatMul", [x, source], "y", after=None)
    product.shape = ir.Shape(["n", 12])
    node = product.producer()
    assert node is not None
    stored = insert_stored_weight(
        graph, quantize_weight(weight, 1, precision), precision, "weight", dtype=ir.DataType.FLOAT, before=node
    )
    node.replace_input_with(1, stored)
    del graph.initializers["weight"]
    graph.outputs.append(product)
    feeds = {"x": random.standard_normal((6, 20)).astype(np.float32)}
    results = [run_plainly(ir.Model(graph, ir_version=10), feeds, level, False)["y"] for level in LEVELS]
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])
    columns = [column_of_codes(weight[:, i], precision) for i in range(12)]
    np.testing.assert_allclose(results[0], feeds["x"] @ np.stack(columns, axis=1), rtol=1e-5, atol=1e-5)


def column_of_codes(column: np.ndarray, precision: Precision) -> np.ndarray:
    """One output channel of a weight, quantized by hand."""
    largest = {Precision.INT8: 127, Precision.INT4: 7, Precision.FP8: 448}[precision]
    scale = np.float32(np.float16(np.abs(column).max() / np.float32(largest)))
    if precision is Precision.FP8:
        return cast_to_e4m3(column, float(scale))
    return np.clip(np.rint(column / scale), -largest - 1, largest) * scale


def test_reads_follow_the_plan() -> None:
    network = emitter("residual_cnn")
    plan = uniform("residual_cnn", Precision.FP16).replace({"block1.conv2": Precision.INT8})
    reads = list(activation_reads(prepared("residual_cnn").grouping, plan, network._ranges))
    assert [(site.role, site.tensor) for site, _, _ in reads] == [
        ("input", "block1.relu1.out"),
        ("residual", "stem.relu.out"),
    ]


def test_a_tensor_without_range_is_named() -> None:
    grouping = make_grouping([make_group("conv")])
    plan = PrecisionPlan.of({"conv": Precision.INT8})
    with pytest.raises(CalibrationError, match=r"tensor x \(read by conv\) was not calibrated for int8: calibrate"):
        list(activation_reads(grouping, plan, Ranges({}, 1, {})))


def test_a_tensor_with_a_bad_range_is_named() -> None:
    grouping = make_grouping([make_group("conv")])
    plan = PrecisionPlan.of({"conv": Precision.INT8})
    ranges = Ranges({}, 1, {"x": TensorRange(0, 1, {Precision.INT8: float("nan")})})
    with pytest.raises(CalibrationError, match=r"tensor x \(read by conv\): amax must be finite"):
        list(activation_reads(grouping, plan, ranges))
