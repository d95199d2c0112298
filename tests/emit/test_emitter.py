"""The three flavours: valid, placed as TensorRT wants it, and of one meaning."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from functools import cache

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.emit.examples import ALL_NETWORKS, deviation, emitter, feeds, prepared, run_plainly, uniform
from tests.prepared import RUNTIME, prepare
from trt_mpq.emit import Emitter, Refinements
from trt_mpq.errors import ModelError
from trt_mpq.graph.opset import convert_opset
from trt_mpq.types import Precision, PrecisionPlan, Ranges, TensorRange

FP32, FP16, BF16, FP8, INT8, INT4 = map(Precision, ("fp32", "fp16", "bf16", "fp8", "int8", "int4"))
CODES = {INT8: ir.DataType.INT8, FP8: ir.DataType.FLOAT8E4M3FN, INT4: ir.DataType.INT4}
QDQ = ("QuantizeLinear", "DequantizeLinear")
networks = pytest.mark.parametrize("name", ALL_NETWORKS)
few = settings(max_examples=6)


def plans(name: str, *precisions: Precision) -> st.SearchStrategy[PrecisionPlan]:
    """Any plan of the network with these precisions."""
    ids = [group.id for group in prepared(name).grouping.groups]
    drawn = st.tuples(*[st.sampled_from(precisions)] * len(ids))
    return drawn.map(lambda chosen: PrecisionPlan.of(dict(zip(ids, chosen, strict=True))))


@cache
def unrounded(name: str) -> Emitter:
    """An emitter for which nothing fits into FP16, so that flavours differ in how they write quantizers only."""
    ranges = prepared(name).calibrated(prepared(name).samples(feeds(name)["input"]))
    wide = {tensor: TensorRange(-1e6, 1e6, observed.amax) for tensor, observed in ranges.tensors.items()}
    return Emitter(prepared(name).graph, prepared(name).grouping, Ranges({}, 16, wide))


def checked(graph: ir.Model) -> bytes:
    data = ir.to_proto(graph).SerializeToString()
    onnx.checker.check_model(data, full_check=True)
    return data


def signature(graph: ir.Model) -> list[tuple[str | None, ir.DataType | None, str]]:
    values = (*graph.graph.inputs, *graph.graph.outputs)
    return [(value.name, value.dtype, str(value.shape)) for value in values]


def dequantized(graph: ir.Model) -> Iterator[tuple[str, int, ir.DataType | None]]:
    """(node, input number, code type) of everything that reads a DequantizeLinear."""
    for node in graph.graph:
        if node.op_type == "DequantizeLinear":
            assert node.inputs[0] is not None
            for reader, index in node.outputs[0].uses():
                yield str(reader.name), index, node.inputs[0].dtype


def expected_reads(name: str, plan: PrecisionPlan) -> list[tuple[str, int, ir.DataType]]:
    """Input and weight of each quantized weighted op, and the residual operand of the Add it has absorbed."""
    nodes = {node.name: node for node in prepared(name).graph.graph}
    reads = []
    for group in prepared(name).grouping.groups:
        if plan[group.id] in CODES and group.op_type == "Attention":
            products = [member for member in group.nodes if nodes[member].op_type == "MatMul"]
            reads += [(product, operand) for product in products for operand in (0, 1)]
        elif plan[group.id] in CODES:
            reads += [(weight.node, operand) for weight in group.weights for operand in (0, 1)]
            written = {nodes[member].outputs[0].name for member in group.nodes}
            for member in group.nodes[1:]:
                operands = [value for value in nodes[member].inputs if value is not None and value.const_value is None]
                if nodes[member].op_type == "Add" and len(operands) == 2:
                    outside = [i for i, value in enumerate(nodes[member].inputs) if value.name not in written]
                    reads += [(member, residual) for residual in outside]
    by_node = {member: group.id for group in prepared(name).grouping.groups for member in group.nodes}
    return [(node, index, CODES[plan[by_node[node]]]) for node, index in reads]


def assert_quantizers_are_sound(graph: ir.Model, scale_type: ir.DataType | None) -> None:
    """Scales and zero points of the right type, constants stored as codes (strong) or as floats (weak), no DQ before
    Q, nothing twice."""
    quantized = []
    weights = graph.metadata_props["trt_mpq.flavour"] == "weak"
    for node in graph.graph:
        if node.op_type not in QDQ:
            continue
        source, scale, zero = node.inputs
        assert source is not None
        assert scale is not None
        assert zero is not None
        assert zero.const_value is not None
        assert scale_type in (None, scale.dtype)
        steps = scale.const_value.numpy().astype(np.float32)
        assert np.all(steps > 0)
        np.testing.assert_array_equal(steps.astype(np.float16).astype(np.float32), steps)
        assert not zero.const_value.numpy().astype(np.float32).any()
        if node.op_type == "QuantizeLinear":
            assert source.const_value is None or weights
            assert source.producer() is None or source.producer().op_type != "DequantizeLinear"
            quantized.append((source, zero.dtype))
        else:
            assert source.dtype is zero.dtype
            stored = source.producer().inputs[0] if weights else source
            assert (stored.const_value is None) == (scale.shape is not None and len(scale.shape) == 0)
    assert len(set(quantized)) == len(quantized)


def assert_named_once(graph: ir.Model) -> None:
    values = [value.name for value in (*graph.graph.inputs, *graph.graph.initializers.values())]
    values += [value.name for node in graph.graph for value in node.outputs if value.name]
    nodes = [node.name for node in graph.graph]
    assert max(Counter(values).values()) == max(Counter(nodes).values()) == 1


@networks
@pytest.mark.parametrize("precision", [FP16, INT8, FP8, INT4])
def test_strong_flavour_is_half_around_quantized_reads(name: str, precision: Precision) -> None:
    graph = emitter(name).strong(uniform(name, precision))
    checked(graph)
    assert graph.opset_imports[""] == (21 if precision is INT4 else 19)
    assert graph.ir_version == (10 if precision is INT4 else 9)
    assert signature(graph) == signature(prepared(name).graph)
    assert sorted(dequantized(graph)) == sorted(expected_reads(name, uniform(name, precision)))
    assert_quantizers_are_sound(graph, ir.DataType.FLOAT16)
    assert_named_once(graph)
    original = {node.name for node in prepared(name).graph.graph}
    for node in graph.graph:
        for value in (*node.inputs, *node.outputs) if node.name in original else ():
            if value is not None and value.name != "scales":  # what Resize multiplies sizes by
                assert value.dtype is not ir.DataType.FLOAT


@networks
@few
@given(data=st.data())
def test_any_plan_is_valid_and_placed_right_in_every_flavour(name: str, data: st.DataObject) -> None:
    plan = data.draw(plans(name, FP32, FP16, INT8, FP8, INT4))
    strong, reference = emitter(name).strong(plan), emitter(name).reference(plan)
    for graph in (strong, reference):
        checked(graph)
        assert_named_once(graph)
        assert signature(graph) == signature(prepared(name).graph)
    assert sorted(dequantized(strong)) == sorted(expected_reads(name, plan))
    assert_quantizers_are_sound(strong, None)
    floats = {node.name: node.outputs[0].dtype for node in strong.graph}
    for group in prepared(name).grouping.groups:
        wanted = ir.DataType.FLOAT if plan[group.id] is FP32 else ir.DataType.FLOAT16
        assert {floats[member] for member in group.nodes} == {wanted}


@networks
@few
@given(data=st.data())
def test_strong_and_reference_are_bit_equal_where_nothing_is_half(name: str, data: st.DataObject) -> None:
    """Q/DQ against plain arithmetic, stored codes against folded weights, placement against placement.

    At one opset: from 21 on, which INT4 needs, ONNX Runtime fuses a GELU otherwise, to another last bit.
    """
    plan = data.draw(plans(name, FP32, INT8, FP8, INT4))
    strong = unrounded(name).strong(plan)
    reference = convert_opset(unrounded(name).reference(plan), strong.opset_imports[""])
    written = RUNTIME.load(strong).run(feeds(name))
    for output, values in RUNTIME.load(reference).run(feeds(name)).items():
        np.testing.assert_array_equal(written[output], values)


@networks
@few
@given(data=st.data())
def test_weak_and_reference_are_bit_equal_where_nothing_is_half(name: str, data: st.DataObject) -> None:
    plan = data.draw(plans(name, FP32, INT8))
    graph = unrounded(name).weak(plan)
    checked(graph)
    assert graph.opset_imports[""] == 17
    assert sorted(dequantized(graph)) == sorted(expected_reads(name, plan))
    assert_quantizers_are_sound(graph, ir.DataType.FLOAT)
    reference = RUNTIME.load(unrounded(name).reference(plan)).run(feeds(name))
    weak = RUNTIME.load(graph).run(feeds(name))
    for output, values in reference.items():
        np.testing.assert_array_equal(weak[output], values)


@networks
@few
@given(data=st.data())
def test_strong_and_reference_agree_up_to_half_rounding(name: str, data: st.DataObject) -> None:
    """ONNX Runtime does not round FP16 tensors on the CPU; the last bit may move a value to the next code."""
    plan = data.draw(plans(name, FP32, FP16, INT8, FP8))
    reference = RUNTIME.load(emitter(name).reference(plan)).run(feeds(name))
    strong = RUNTIME.load(emitter(name).strong(plan)).run(feeds(name))
    for output, values in reference.items():
        assert deviation(values, strong[output]) < 0.03


@networks
def test_weak_flavour_agrees_up_to_half_rounding(name: str) -> None:
    for precision, tolerance in ((FP16, 1e-3), (INT8, 0.03)):
        reference = RUNTIME.load(emitter(name).reference(uniform(name, precision))).run(feeds(name))
        weak = RUNTIME.load(emitter(name).weak(uniform(name, precision))).run(feeds(name))
        for output, values in reference.items():
            assert deviation(values, weak[output]) < tolerance


@networks
@pytest.mark.parametrize("precision", [INT8, FP8, INT4])
def test_quantization_error_is_that_of_the_format(name: str, precision: Precision) -> None:
    """Codes that were misplaced, mis-scaled or along the wrong axis would give far more."""
    exact = RUNTIME.load(prepared(name).graph).run(feeds(name))["output"]
    quantized = RUNTIME.load(emitter(name).reference(uniform(name, precision))).run(feeds(name))["output"]
    assert 1e-3 < deviation(exact, quantized) < {INT8: 0.04, FP8: 0.12, INT4: 0.5}[precision]


@networks
def test_weights_of_the_weak_flavour_fold_to_the_codes_of_the_strong_one(name: str) -> None:
    """ONNX Runtime, level by level, against the initializers; both readers of a shared weight get one quantizer."""
    plan = uniform(name, INT8)
    strong, weak = emitter(name).strong(plan), emitter(name).weak(plan)
    stored = {
        (reader.name, index): node.inputs[0].const_value.numpy()
        for node in strong.graph
        if node.op_type == "DequantizeLinear" and node.inputs[0].const_value is not None
        for reader, index in node.outputs[0].uses()
    }
    folded = {
        (reader.name, index): node.inputs[0]
        for node in weak.graph
        if node.op_type == "DequantizeLinear" and node.inputs[0].producer().inputs[0].const_value is not None
        for reader, index in node.outputs[0].uses()
    }
    weights = [weight for group in prepared(name).grouping.groups for weight in group.weights]
    assert stored.keys() == folded.keys() == {(weight.node, weight.index) for weight in weights}
    weak.graph.outputs.extend(dict.fromkeys(folded.values()))
    for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"):
        codes = run_plainly(weak, feeds(name), level)
        for read, value in folded.items():
            np.testing.assert_array_equal(codes[value.name], stored[read])


def test_constraints_pin_what_runs_in_high_precision_and_nothing_else() -> None:
    plan = uniform("crossroads", INT8).replace({"hub": FP32, "raw": FP16, "plain": FP32})
    assert emitter("crossroads").constraints(plan) == {
        "hub": FP32, "hub.relu": FP32, "raw": FP16, "plain": FP32,
        "up": FP16, "pool": FP16,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["crossroads", "bert"])
def test_layers_in_8_bit_are_those_between_quantizers(name: str) -> None:
    plan = uniform(name, INT8)
    told, weak = emitter(name).eight_bit_layers(plan), emitter(name).weak(plan).graph
    between = {
        str(use.name)
        for node in weak
        if node.op_type == "DequantizeLinear"
        for use, _ in node.outputs[0].uses()
        if use.op_type != "QuantizeLinear"
    }
    assert set(told) == between
    assert set(told.values()) == {INT8}
    assert not set(told) & set(emitter(name).constraints(plan))
    assert emitter(name).eight_bit_layers(uniform(name, FP16)) == {}


@networks
@few
@given(data=st.data())
def test_constraints_name_nodes_of_the_weak_flavour_in_the_type_of_the_strong_one(
    name: str, data: st.DataObject
) -> None:
    plan = data.draw(plans(name, FP32, FP16, INT8))
    pinned = emitter(name).constraints(plan)
    assert list(pinned) == [node.name for node in emitter(name).weak(plan).graph if node.name in pinned]
    types = {FP16: ir.DataType.FLOAT16, FP32: ir.DataType.FLOAT}
    strong = {node.name: node.outputs[0].dtype for node in emitter(name).strong(plan).graph}
    assert {node: strong[node] for node in pinned} == {node: types[precision] for node, precision in pinned.items()}


def test_what_overflows_is_pinned_to_fp32_even_if_it_only_moves_values() -> None:
    pinned = unrounded("shared_maxpool").constraints(uniform("shared_maxpool", INT8))
    assert pinned == {"halve": FP32, "join": FP32, "pool": FP32, "flat": FP32}


def test_casts_and_shape_computations_are_not_pinned() -> None:
    """MiniLM-like: a Cast mask and sizes computed in floating point, which an exporter leaves in the graph."""
    text = """
    <ir_version: 8, opset_import: ["":17]>
    network (float[batch,8] input, int64[batch,16] mask) => (float[batch,16] output)
    <float[8,16] w, float one = {1.0}> {
        [product] y = MatMul(input, w)
        [shape] sizes = Shape(y)
        [half] floats = Cast<to=1>(sizes)
        [grow] grown = Mul(floats, one)
        [back] shape = Cast<to=7>(grown)
        [reshape] z = Reshape(y, shape)
        [widen] m = Cast<to=1>(mask)
        [masked] output = Mul(z, m)
    }
    """
    proto = onnx.parser.parse_model(text)
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(
        [
            onnx.numpy_helper.from_array(np.eye(8, 16, dtype=np.float32), "w"),
            onnx.numpy_helper.from_array(np.float32(1), "one"),
        ]
    )
    graph = ir.from_proto(proto)
    for value in graph.graph.initializers.values():
        value.dtype = ir.DataType.FLOAT
    from trt_mpq.graph import onnx_api
    from trt_mpq.groups import groups_from_model

    onnx_api.infer_shapes(graph)
    grouping = groups_from_model(graph, {"input": (1, 8), "mask": (1, 16), "z": (1, 16), "output": (1, 16)}, "none")
    network = Emitter(graph, grouping, Ranges({}, 1, {}))
    pinned = network.constraints(PrecisionPlan.uniform(grouping.groups, FP16, FP16))
    assert pinned == {"product": FP16, "masked": FP16}


@pytest.mark.parametrize("precision", [FP8, INT4])
def test_weak_flavour_refuses_what_tensorrt_8_cannot_import(precision: Precision) -> None:
    plan = uniform("mlp", FP16).replace({"fc2": precision})
    with pytest.raises(ModelError, match=rf"TensorRT 8.6\) cannot hold {precision}: it imports INT8 only"):
        emitter("mlp").weak(plan)


def test_a_newer_opset_is_kept_by_strong_and_lowered_by_weak() -> None:
    network = prepared("residual_cnn")
    graph = convert_opset(network.graph, 22)
    graph.ir_version = 8  # older than what codes need, which only a file by another tool can be
    newer = Emitter(graph, network.grouping, emitter("residual_cnn")._ranges)
    plan = uniform("residual_cnn", INT8)
    strong, weak = newer.strong(plan), newer.weak(plan)
    assert (strong.opset_imports[""], weak.opset_imports[""]) == (22, 17)
    assert (strong.ir_version, weak.ir_version) == (9, 8)
    expected = RUNTIME.load(emitter("residual_cnn").reference(plan)).run(feeds("residual_cnn"))["output"]
    for graph in (strong, weak, newer.reference(plan)):
        checked(graph)
        assert deviation(expected, RUNTIME.load(graph).run(feeds("residual_cnn"))["output"]) < 0.03


def test_pad_and_split_of_opset_18_have_a_weak_flavour() -> None:
    """ONNX's converter has no way down for them."""
    proto = onnx.parser.parse_model("""
    <ir_version: 8, opset_import: ["":18]>
    network (float[batch,16,8,8] input) => (float[batch,16,8,9] output)
    <int64[2] amounts = {0,1}, int64[1] last = {3}> {
        [conv] c = Conv<pads=[1,1,1,1]>(input, weight)
        [pad] p = Pad(c, amounts, , last)
        [split] l, r = Split<axis=1,num_outputs=2>(p)
        [join] output = Concat<axis=1>(r, l)
    }
    """)
    weight = np.random.default_rng(0).standard_normal((16, 16, 3, 3)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "weight"))
    network = prepare(proto)
    values = np.random.default_rng(1).standard_normal((4, 16, 8, 8)).astype(np.float32)
    both = Emitter(network.graph, network.grouping, network.calibrated(network.samples(values)))
    plan = PrecisionPlan.of({"conv": INT8})
    weak = both.weak(plan)
    checked(weak)
    expected = RUNTIME.load(both.reference(plan)).run({"input": values})["output"]
    assert deviation(expected, RUNTIME.load(weak).run({"input": values})["output"]) < 0.03


def test_emitting_changes_nothing_and_repeats_itself() -> None:
    network = prepared("crossroads")
    before = ir.to_proto(network.graph).SerializeToString(deterministic=True)
    shared = emitter("crossroads")
    for precision in (INT8, FP16, FP8, INT4, INT8):
        plan = uniform("crossroads", precision)
        fresh = Emitter(network.graph, network.grouping, shared._ranges)
        for write, again in ((shared.reference, fresh.reference), (shared.strong, fresh.strong)):
            first, second = (ir.to_proto(emit(plan)).SerializeToString(deterministic=True) for emit in (write, again))
            assert first == second
    assert ir.to_proto(network.graph).SerializeToString(deterministic=True) == before


def test_a_tensor_read_in_three_formats_has_one_quantizer_each() -> None:
    plan = uniform("crossroads", FP16).replace({"left": INT8, "right": FP8, "raw": INT8, "strided": INT4})
    graph = emitter("crossroads").strong(plan)
    checked(graph)
    quantizers = Counter(
        (str(node.inputs[0].name), node.outputs[0].dtype) for node in graph.graph if node.op_type == "QuantizeLinear"
    )
    hub = next(node.outputs[0].name for node in graph.graph if node.name == "hub.relu")
    assert quantizers[str(hub), ir.DataType.INT8] == quantizers[str(hub), ir.DataType.FLOAT8E4M3FN] == 1
    assert max(quantizers.values()) == 1
    assert {value.name for value in graph.graph.outputs} == {"output", "hub"}


def test_layers_that_share_a_weight_share_its_codes() -> None:
    graph = emitter("crossroads").strong(uniform("crossroads", INT8))
    nodes = {node.name: node for node in graph.graph}
    assert nodes["left"].inputs[1] is nodes["right"].inputs[1]
    mixed = emitter("crossroads").strong(uniform("crossroads", INT8).replace({"right": FP16}))
    nodes = {node.name: node for node in mixed.graph}
    assert nodes["right"].inputs[1].const_value is not None


def test_stored_codes_take_as_many_bits_as_the_format() -> None:
    """What a plan saves is on disk: the file shrinks with the width of the codes."""
    sizes = {p: len(checked(emitter("mlp").strong(uniform("mlp", p)))) for p in (FP16, INT8, INT4)}
    weights = sum(math.prod(group.weight.shape) for group in prepared("mlp").grouping.groups)
    assert sizes[FP16] - sizes[INT8] == pytest.approx(weights, rel=0.5)
    assert sizes[INT8] - sizes[INT4] == pytest.approx(weights / 2, rel=0.1)


def test_metadata_says_what_the_file_is() -> None:
    plan = uniform("mlp", INT4)
    strong, reference = emitter("mlp").strong(plan), emitter("mlp").reference(uniform("mlp", INT8))
    assert strong.metadata_props["trt_mpq.plan"] == plan.digest
    assert strong.metadata_props["trt_mpq.flavour"] == "strong"
    assert strong.metadata_props["trt_mpq.deployable"] == "false"
    assert reference.metadata_props["trt_mpq.deployable"] == "true"


@pytest.mark.parametrize("precision", [INT8, FP8])
def test_our_session_runs_typed_graphs_as_if_nothing_were_optimized(precision: Precision) -> None:
    """ONNX Runtime's Q/DQ passes drop a Relu before an FP8 QuantizeLinear and round biases to INT32 in FP16.

    The stem's bias is large against its scales, which overflows when it is divided by them in FP16.
    """
    network = prepared("residual_cnn")
    ranges = emitter("residual_cnn")._ranges
    groups = {group.id: np.full(group.weight.shape[0], 30, np.float32) for group in network.grouping.groups[:2]}
    corrections = {(name, precision): delta for name, delta in groups.items()}
    corrected = Emitter(network.graph, network.grouping, ranges, Refinements(corrections))
    strong = corrected.strong(uniform("residual_cnn", precision))
    ours = RUNTIME.load(strong).run(feeds("residual_cnn"))["output"]
    np.testing.assert_array_equal(ours, run_plainly(strong, feeds("residual_cnn"), "ORT_DISABLE_ALL")["output"])


@networks
@pytest.mark.parametrize("precision", [FP16, INT8, FP8, INT4])
def test_our_session_runs_every_flavour_as_if_nothing_were_optimized(name: str, precision: Precision) -> None:
    for graph in (emitter(name).strong(uniform(name, precision)), emitter(name).reference(uniform(name, precision))):
        ours = RUNTIME.load(graph).run(feeds(name))
        for output, values in run_plainly(graph, feeds(name), "ORT_DISABLE_ALL").items():
            np.testing.assert_array_equal(ours[output], values)
