from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.emit.examples import ALL_NETWORKS, emitter, feeds, prepared, run_plainly, uniform
from trt_mpq.runtime.onnxruntime import OnnxRuntime
from trt_mpq.runtime.quantizers import vectorized
from trt_mpq.types import Precision, PrecisionPlan

RUNTIME = OnnxRuntime(1)


def quantizer(element: str, scale: float) -> ir.Model:
    """x, quantized to FP8 and back, behind an operator that leaves it as it is."""
    proto = onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : 19]> g ({element}[n] x) => ({element}[n] y) '
        "{ q = QuantizeLinear(x, scale, zero) d = DequantizeLinear(q, scale, zero) y = Identity(d) }"
    )
    stored = np.array(scale, np.float16 if element == "float16" else np.float32)
    zero = onnx.helper.make_tensor("zero", onnx.TensorProto.FLOAT8E4M3FN, [], [0.0])
    proto.graph.initializer.extend([onnx.numpy_helper.from_array(stored, "scale"), zero])
    return ir.from_proto(proto)


def mixed(name: str, precision: Precision) -> PrecisionPlan:
    """Every other group in `precision`, the rest in FP16."""
    groups = [group.id for group in prepared(name).grouping.groups]
    return uniform(name, Precision.FP16).replace(dict.fromkeys(groups[::2], precision))


@pytest.mark.parametrize("scale", [0.0123, 0.37, 1.0, 30.1, 0.7 * 2.0**-9])
@pytest.mark.parametrize("element", ["float16", "float"])
def test_numbers_are_those_of_the_cast(element: str, scale: float) -> None:
    """All finite FP16 numbers, and FP32 numbers of every binade."""
    bits = np.arange(0x7C00, dtype=np.uint16) if element == "float16" else np.arange(0, 0x7F800000, 2503, np.uint32)
    magnitudes = bits.view(np.float16 if element == "float16" else np.float32)
    x = np.concatenate([magnitudes, -magnitudes])
    graph = quantizer(element, scale)
    rounded = vectorized(graph)
    assert not {"QuantizeLinear", "DequantizeLinear"} & {node.op_type for node in rounded.graph}
    factor = x.dtype.type(scale).astype(np.float32)
    with np.errstate(over="ignore"):
        codes = np.clip(x.astype(np.float32) / factor, -448, 448).astype(ml_dtypes.float8_e4m3fn)
    expected = (codes.astype(np.float32) * factor).astype(x.dtype)
    np.testing.assert_array_equal(RUNTIME.load(graph).run({"x": x})["y"], expected)
    np.testing.assert_array_equal(run_plainly(graph, {"x": x}, "ORT_ENABLE_BASIC", qdq_passes=False)["y"], expected)


@pytest.mark.parametrize("scale", [0.0123, 0.37, 30.1, 0.7 * 2.0**-20])
@pytest.mark.parametrize("bounds", [None, (0.0, 6.0), (-1.0, 1.0)])
def test_integers_of_fp16_are_those_of_division_and_rounding(bounds, scale: float) -> None:
    """All finite FP16 numbers, clipped or not."""
    magnitudes = np.arange(0x7C00, dtype=np.uint16).view(np.float16)
    x = np.concatenate([magnitudes, -magnitudes])
    clip = "" if bounds is None else "c = Clip(a, low, high)"
    graph = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 19]> g (float16[n] x) => (float16[n] y) '
        f"{{ a = Add(x, nothing) {clip} q = QuantizeLinear({'a' if bounds is None else 'c'}, scale, zero) "
        "y = DequantizeLinear(q, scale, zero) }"
    )
    constants = {"scale": np.float16(scale), "zero": np.int8(0), "nothing": np.float16(0)}
    if bounds is not None:
        constants |= dict(zip(("low", "high"), map(np.float16, bounds), strict=True))
    graph.graph.initializer.extend(onnx.numpy_helper.from_array(np.array(v), k) for k, v in constants.items())
    model = ir.from_proto(graph)
    slow = {"Clip", "QuantizeLinear"}
    assert {node.inputs[0].dtype for node in vectorized(model).graph if node.op_type in slow} == {ir.DataType.FLOAT}
    factor = np.float32(constants["scale"])
    clipped = x.astype(np.float32) if bounds is None else np.clip(x.astype(np.float32), *bounds)
    codes = np.clip(np.rint(clipped / factor), -128, 127)
    expected = (codes * factor).astype(np.float16)
    np.testing.assert_array_equal(RUNTIME.load(model).run({"x": x})["y"], expected)
    np.testing.assert_array_equal(run_plainly(model, {"x": x}, "ORT_ENABLE_BASIC", qdq_passes=False)["y"], expected)


@pytest.mark.parametrize("precision", [Precision.FP8, Precision.INT8])
@pytest.mark.parametrize("plan_of", [uniform, mixed])
@pytest.mark.parametrize("name", sorted(ALL_NETWORKS))
def test_a_typed_network_gives_what_onnx_runtime_gives_for_the_file_as_it_is(name, plan_of, precision) -> None:
    """Where ONNX Runtime rounds to FP16 and where it does not is its own choice, and stays it."""
    graph = emitter(name).strong(plan_of(name, precision))
    assert vectorized(graph) is not graph
    expected = run_plainly(graph, feeds(name), "ORT_ENABLE_BASIC", qdq_passes=False)
    actual = RUNTIME.load(graph).run(feeds(name))
    assert expected.keys() == actual.keys()
    for output, value in expected.items():
        np.testing.assert_array_equal(actual[output], value)


def test_what_is_asked_for_or_has_other_codes_is_left_alone() -> None:
    dequantized = quantizer("float", 1.0)
    dequantized.graph.outputs[:] = [value for node in dequantized.graph for value in node.outputs if value.name == "d"]
    wide = emitter("mlp").reference(uniform("mlp", Precision.INT8))
    for graph in (dequantized, wide):
        assert vectorized(graph) is graph


def test_codes_of_another_scale_or_read_by_others_stay() -> None:
    graph = quantizer("float", 1.0)
    quantize = next(node for node in graph.graph if node.op_type == "QuantizeLinear")
    graph.graph.append(ir.node("Identity", [quantize.outputs[0]], name="reader"))
    assert vectorized(graph) is graph
