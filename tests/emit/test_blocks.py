"""Formats with blocks and weights alone, as each flavour writes them."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx.reference import ReferenceEvaluator

from tests.emit.examples import LEVELS, deviation, run_plainly
from tests.networks import Builder, sample_input
from tests.prepared import RUNTIME, Prepared, prepare
from trt_mpq.calibrate.ranges import calibrate
from trt_mpq.emit import Emitter
from trt_mpq.emit.blocks import multiply_rows
from trt_mpq.emit.describe import describe_placement
from trt_mpq.emit.quantizers import insert_fake_quantizer
from trt_mpq.groups import groups_from_model
from trt_mpq.lint import Severity, lint_graph
from trt_mpq.numerics import activation_scale, fake_quantize_activation, quantize_weight, round_to_half
from trt_mpq.runtime.onnxruntime import OnnxRuntime
from trt_mpq.types import Precision, PrecisionPlan, Ranges, TensorRange

FP16, BF16, INT8, W8A16, W4A16, NVFP4 = map(Precision, ("fp16", "bf16", "int8", "w8a16", "w4a16", "nvfp4"))
NEW = (W8A16, W4A16, NVFP4)


def perceptron() -> onnx.ModelProto:
    """A MatMul with a bias, a Relu, a Gemm with a transposed weight, and a product of one that no block divides."""
    b = Builder(7)
    hidden = b.node("MatMul", "first", ["input", b.normal("first.weight", (128, 192), 0.1)])
    hidden = b.relu("relu", b.node("Add", "bias", [hidden, b.normal("first.bias", (192,), 0.1)]))
    second = [hidden, b.normal("second.weight", (40, 192), 0.1), b.normal("second.bias", (40,), 0.1)]
    narrow = b.node("Gemm", "second", second, transB=1)
    b.node("MatMul", "third", [narrow, b.normal("third.weight", (40, 16), 0.2)])
    return b.model((128,), (16,))


@cache
def network() -> tuple[Prepared, Emitter]:
    """The perceptron with its groups for all formats, and what writes it."""
    found = prepare(perceptron())
    samples = sample_input(perceptron(), 16)
    grouping = groups_from_model(found.graph, {"input": (1, 128)}, "none", formats=NEW)
    (ranges,) = calibrate(
        found.graph,
        grouping,
        found.samples(samples["input"]),
        RUNTIME,
        methods=("mse",),
        formats=(NVFP4, INT8),
        batch=8,
    )
    return Prepared(found.model, found.graph, grouping), Emitter(found.graph, grouping, ranges)


def uniform(precision: Precision) -> PrecisionPlan:
    return network()[0].grouping.uniform(precision)


def test_what_has_no_whole_blocks_stays_in_high_precision_and_says_why() -> None:
    third = network()[0].grouping.groups[-1]
    assert third.excluded == {
        W4A16: "K = 40 is not two or more blocks of 128 or 64, which w4a16 has",
        NVFP4: "K = 40 is not two or more blocks of 16, which nvfp4 has",
    }
    assert uniform(NVFP4).as_dict() == {"first": NVFP4, "second": NVFP4, "third": FP16}


@pytest.mark.parametrize("precision", NEW)
def test_typed_files_are_valid_onnx_with_placement_in_words(precision: Precision) -> None:
    graph = network()[1].strong(uniform(precision))
    onnx.checker.check_model(ir.to_proto(graph), full_check=True)
    assert graph.opset_imports[""] == precision.spec.opset
    assert [finding for finding in lint_graph(graph) if finding.severity is not Severity.NOTE] == []
    lines = {
        W8A16: "first[1] <- first.weight_w8a16_codes INT8 axis 1 scale FLOAT16",
        W4A16: "first[1] <- first.weight_w4a16_codes INT4 axis 0 blocks of 64 scale FLOAT16",
        NVFP4: "first[1] <- first.weight_nvfp4_codes FLOAT4E2M1 axis 0 blocks of 16 scale FLOAT8E4M3FN",
    }
    assert lines[precision] in describe_placement(graph.graph).splitlines()


def test_activations_of_nvfp4_are_quantized_as_they_come() -> None:
    graph = network()[1].strong(uniform(NVFP4))
    made = [node for node in graph.graph if node.op_type == "TRT_FP4DynamicQuantize"]
    assert [node.domain for node in made] == ["trt", "trt"]
    assert graph.opset_imports["trt"] == 1
    lines = describe_placement(graph.graph).splitlines()
    assert "first[0] <- input_fp16 FLOAT4E2M1 axis -1 blocks of 16 scale FLOAT8E4M3FN" in lines
    assert not uniform(NVFP4).portable


@pytest.mark.parametrize("leading", [(), (5,), (2, 3)])
def test_products_of_rows_are_what_they_were(leading: tuple[int, ...]) -> None:
    """Two products of one tensor and one of what comes of them, as matrices between Reshapes."""
    b = Builder(3)
    sides = [b.node("MatMul", name, ["input", b.normal(f"{name}.weight", (32, 48), 0.2)]) for name in ("key", "value")]
    b.node("MatMul", "last", [b.node("Add", "sum", sides), b.normal("last.weight", (48, 16), 0.2)])
    graph = prepare(b.model((*leading, 32), (*leading, 16))).graph
    inputs = {"input": np.random.default_rng(0).standard_normal((4, *leading, 32)).astype(np.float32)}
    (expected,) = OnnxRuntime(1).load(graph).run(inputs).values()
    products = [node for node in graph.graph if node.op_type == "MatMul"]
    multiply_rows(graph.graph, products)
    onnx.checker.check_model(ir.to_proto(graph), full_check=True)
    reshapes = [node for node in graph.graph if node.op_type == "Reshape"]
    assert len(reshapes) == (0 if not leading else 5)  # what two read is reshaped once
    assert leading == () or len({node.inputs[0] for node in products[:2]}) == 1
    (found,) = OnnxRuntime(1).load(graph).run(inputs).values()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("precision", [W8A16, W4A16])
def test_weights_alone_leave_activations_alone(precision: Precision) -> None:
    graph = network()[1].strong(uniform(precision))
    assert {node.op_type for node in graph.graph} & {"QuantizeLinear", "TRT_FP4DynamicQuantize"} == set()


@pytest.mark.parametrize("precision", [W8A16, W4A16])
@pytest.mark.parametrize("level", LEVELS)
def test_the_typed_file_of_weights_alone_computes_what_the_reference_does(precision: Precision, level: str) -> None:
    inputs, (_, writer) = sample_input(perceptron(), 8), network()
    (expected,) = OnnxRuntime(1).load(writer.reference(uniform(precision))).run(inputs).values()
    (found,) = run_plainly(writer.strong(uniform(precision)), inputs, level, qdq_passes=False).values()
    assert deviation(expected, found) < 2e-3


def test_onnx_itself_dequantizes_the_weights_of_nvfp4_to_what_was_meant() -> None:
    """ONNX's reference implementation, on the chain of DequantizeLinear in front of the first product alone."""
    graph = network()[1].strong(uniform(NVFP4)).graph
    (last,) = [node for node in graph if node.op_type == "Cast" and str(node.name).startswith("first.weight_nvfp4")]
    wide = last.inputs[0]
    assert wide is not None
    content = network()[0].graph.graph.initializers["first.weight"].const_value
    assert content is not None
    expected = quantize_weight(content.numpy(), 1, NVFP4).values
    nodes = [node for node in graph if str(node.name).startswith("first.weight_nvfp4") and node is not last]
    proto = onnx.helper.make_graph(
        [ir.to_proto(node) for node in nodes], "weight", [],
        [onnx.helper.make_tensor_value_info(str(wide.name), onnx.TensorProto.FLOAT, content.shape.numpy())],
        [ir.to_proto(v.const_value) for v in graph.initializers.values() if "first.weight_nvfp4" in str(v.name)],
    )  # fmt: skip
    model = onnx.helper.make_model(proto, opset_imports=[onnx.helper.make_opsetid("", 23)], ir_version=11)
    (found,) = ReferenceEvaluator(model).run(None, {})
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("precision", NEW)
@pytest.mark.parametrize("top", [FP16, BF16])
def test_the_reference_equals_numpy(precision: Precision, top: Precision) -> None:
    """First product of the perceptron, written out with the quantizers of `numerics`."""
    from dataclasses import replace

    found, plain = network()
    grouping = replace(found.grouping, top=top)
    writer = Emitter(found.graph, grouping, plain._ranges)
    plan = grouping.uniform(top).replace({"first": precision})
    graph = writer.reference(plan)
    output = next(node for node in graph.graph if node.name == "first").outputs[0]
    graph.graph.outputs.append(output)
    x = sample_input(perceptron(), 8)["input"]
    results = OnnxRuntime(1).load(graph).run({"input": x})
    data = round_to_half(x, top)
    if precision is NVFP4:
        scale = activation_scale(plain._ranges.tensors["input"].amax[NVFP4], NVFP4)
        data = fake_quantize_activation(data, scale, NVFP4)
    content = found.graph.graph.initializers["first.weight"].const_value
    assert content is not None
    expected = data @ quantize_weight(content.numpy(), 1, precision, top).values
    np.testing.assert_allclose(results[str(output.name)], expected, rtol=1e-5, atol=1e-5)


def test_weights_that_multiply_one_tensor_share_the_scale_of_their_scales() -> None:
    b = Builder(11)
    products = [b.node("MatMul", f"m{i}", ["input", b.normal(f"w{i}", (64, 32), 0.1 * 4**i)]) for i in range(3)]
    b.node("Concat", "join", products, axis=1)
    found = prepare(b.model((64,), (96,)))
    (group,) = groups_from_model(found.graph, {"input": (1, 64)}, "none", formats=NEW).groups
    ranges = Ranges({}, 1, {"input": TensorRange(-1.0, 1.0, {NVFP4: 1.0})})
    writer = Emitter(found.graph, groups_from_model(found.graph, {"input": (1, 64)}, "none", formats=NEW), ranges)
    stored = [writer.quantized_weight(weight, NVFP4) for weight in group.weights]
    content = found.graph.graph.initializers["w2"].const_value
    assert content is not None
    assert {float(np.asarray(one.scales.tensor_scale)) for one in stored} == {
        float(np.abs(content.numpy()).max() / np.float32(6 * 448))
    }


def quantizer(scale: np.ndarray, axes: list[str | int], opset: int) -> ir.Model:
    x = ir.val("x", ir.DataType.FLOAT, axes)
    graph = ir.Graph([x], [], nodes=[], opset_imports={"": opset}, name="quantizer")
    graph.outputs.append(insert_fake_quantizer(graph, x, scale, NVFP4, "x"))
    return ir.Model(graph, ir_version=9)


@pytest.mark.parametrize("opset", [13, 19])
@settings(max_examples=20)
@given(
    values=hnp.arrays(
        np.float32, st.tuples(st.integers(1, 3), st.integers(1, 3), st.sampled_from([16, 48])),
        elements=st.one_of(st.floats(-(2.0**14), 2.0**14, width=32), st.floats(-(2.0**-120), 2.0**-120, width=32)),
    ),
    amax=st.floats(2.0**-20, 2.0**20, width=32),
)  # fmt: skip
def test_arithmetic_quantizes_activations_bit_for_bit(opset: int, values: np.ndarray, amax: float) -> None:
    scale = activation_scale(amax, NVFP4)
    (found,) = OnnxRuntime(1).load(quantizer(scale, ["n", "m", "k"], opset)).run({"x": values}).values()
    np.testing.assert_array_equal(found, fake_quantize_activation(values, scale, NVFP4))


@pytest.mark.parametrize("level", LEVELS)
def test_arithmetic_means_the_same_at_every_level(level: str) -> None:
    values = np.random.default_rng(0).standard_normal((3, 5, 64)).astype(np.float32) * 3
    values[0, 0, :16] = 0
    scale = activation_scale(4.0, NVFP4)
    (found,) = run_plainly(quantizer(scale, ["n", 5, 64], 19), {"x": values}, level).values()
    np.testing.assert_array_equal(found, fake_quantize_activation(values, scale, NVFP4))


def test_the_ladder_goes_from_wide_to_narrow() -> None:
    widths = [precision.spec.weight_width for precision in Precision if precision.deployable]
    assert all(wide >= narrow or (wide, narrow) == (4.125, 4.5) for wide, narrow in pairwise(widths))
