"""FP16 and BF16 in both flavours: which nodes, which casts, and values as a chain of numpy operations gives them."""

from __future__ import annotations

from dataclasses import replace

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from tests.emit.examples import deviation, run_plainly
from tests.networks import Builder
from tests.prepared import RUNTIME, Prepared, prepare
from trt_mpq.emit import Emitter
from trt_mpq.emit.float_types import half_capable
from trt_mpq.errors import ModelError
from trt_mpq.graph.edit import constant_array
from trt_mpq.types import Precision, PrecisionPlan, Ranges, TensorRange

UNKNOWN = Ranges({}, 0, {})
NOTHING_QUANTIZED = PrecisionPlan.of({})


def parse(body: str, opset: int = 17) -> onnx.ModelProto:
    """A model from ONNX's text form, every node named after its first result."""
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> {body}')
    for node in proto.graph.node:
        node.name = f"{node.output[0]}.node"
    return proto


def emitter_of(network: Prepared, ranges: Ranges = UNKNOWN) -> Emitter:
    return Emitter(network.graph, network.grouping, ranges)


def half(values: np.ndarray, dtype: type = np.float16) -> np.ndarray:
    with np.errstate(over="ignore"):
        return values.astype(dtype).astype(np.float32)


def checked(graph: ir.Model) -> bytes:
    """The graph as a file, if ONNX finds its types and shapes consistent."""
    data = ir.to_proto(graph).SerializeToString()
    onnx.checker.check_model(data, full_check=True)
    return data


# Values.


def exact_chain(seed: int, gain: float = 1.0) -> Prepared:
    """Conv, Relu, Conv, residual Add, Relu, Flatten, Gemm on multiples of 1/32.

    All sums of products are exact in float32, in any order, and need more bits than float16 or bfloat16 has.
    """
    b = Builder(seed)

    def grid(name: str, shape: tuple[int, ...], scale: float = 1.0) -> str:
        return b.constant(name, (b.random.integers(-32, 33, shape) / 32 * scale).astype(np.float32))

    for name, x, channels in (("a", "input", (2, 4)), ("c", "a.relu.out", (4, 4))):
        inputs = [x, grid(f"{name}.weight", (channels[1], channels[0], 3, 3), gain), grid(f"{name}.bias", (4,))]
        y = b.node("Conv", name, inputs, kernel_shape=[3, 3], pads=[1] * 4)
        b.relu(f"{name}.relu", y if name == "a" else b.node("Add", "add", [y, "a.relu.out"]))
    flat = b.node("Flatten", "flat", ["c.relu.out"])
    b.node("Gemm", "head", [flat, grid("head.weight", (64, 5), 2.0**-5), grid("head.bias", (5,))])
    return prepare(b.model((2, 4, 4), (5,)))


def half_chain(network: Prepared, x: np.ndarray, a: type, c: type, head: type) -> np.ndarray:
    """What `exact_chain` means with its groups in these types: operands and every result rounded, sums exact."""
    constants = {
        name: constant_array(value).astype(np.float64) for name, value in network.graph.graph.initializers.items()
    }

    def conv(values: np.ndarray, name: str, dtype: type) -> np.ndarray:
        padded = np.pad(values.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
        sums = np.einsum("nchwij,ocij->nohw", windows, half(constants[f"{name}.weight"], dtype))
        return half(sums + half(constants[f"{name}.bias"], dtype)[:, None, None], dtype)

    skip = half(np.maximum(conv(half(x, a), "a", a), 0), c)
    total = half(conv(skip, "c", c) + skip, c)
    flat = half(np.maximum(total, 0).reshape(len(x), -1), head)
    product = flat.astype(np.float64) @ half(constants["head.weight"], head)
    return half(product + half(constants["head.bias"], head), head)


def chain_input(seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).integers(-4096, 4097, (8, 2, 4, 4)) / 512).astype(np.float32)


def typed_emitter(network: Prepared, top: Precision, refuge: Precision = Precision.FP32) -> Emitter:
    return Emitter(network.graph, replace(network.grouping, top=top, refuge=refuge), UNKNOWN)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("top", "dtype"), [(Precision.FP16, np.float16), (Precision.BF16, ml_dtypes.bfloat16)])
def test_reference_flavour_is_a_chain_of_half_operations(top: Precision, dtype: type, seed: int) -> None:
    network, x = exact_chain(seed), chain_input(seed)
    expected = half_chain(network, x, dtype, dtype, dtype)
    plan = PrecisionPlan.uniform(network.grouping.groups, top)
    graph = typed_emitter(network, top).reference(plan)
    np.testing.assert_array_equal(RUNTIME.load(graph).run({"input": x})["output"], expected)
    unrounded = RUNTIME.load(network.graph).run({"input": x})["output"]
    assert not np.array_equal(unrounded, expected), "the chain must need rounding for this test to mean something"


@pytest.mark.parametrize("seed", range(3))
def test_fp16_and_bf16_groups_meet_in_a_cast(seed: int) -> None:
    network, x, (fp16, bf16) = exact_chain(seed), chain_input(seed), (np.float16, ml_dtypes.bfloat16)
    emitter = typed_emitter(network, Precision.FP16, Precision.BF16)
    plan = PrecisionPlan.of({"a": Precision.BF16, "c": Precision.FP16, "head": Precision.BF16})
    found = RUNTIME.load(emitter.reference(plan)).run({"input": x})["output"]
    np.testing.assert_array_equal(found, half_chain(network, x, bf16, fp16, bf16))
    strong = emitter.strong(plan)
    checked(strong)
    assert strong.opset_imports[""] == 22
    assert emitter.precisions(plan) == {Precision.FP16, Precision.BF16}
    types = {node.name: node.outputs[0].dtype for node in strong.graph if node.op_type != "Cast"}
    half_of = {"a": "B", "a.relu": "B", "c": "F", "add": "F", "c.relu": "F", "flat": "F", "head": "B"}
    assert types == {n: ir.DataType.BFLOAT16 if h == "B" else ir.DataType.FLOAT16 for n, h in half_of.items()}
    between = [(node.inputs[0].dtype, node.outputs[0].dtype) for node in strong.graph if node.op_type == "Cast"]
    assert (ir.DataType.BFLOAT16, ir.DataType.FLOAT16) in between
    assert (ir.DataType.FLOAT16, ir.DataType.BFLOAT16) in between
    assert len(between) == 4, "and one at the input and one at the output"


def test_what_fp16_cannot_hold_is_bf16_where_that_is_the_refuge() -> None:
    """Loose ops too: Flatten is in no group."""
    network = exact_chain(0, gain=64.0)
    x = np.full((1, 2, 4, 4), 1000, np.float32)
    ranges = network.calibrated(network.samples(x), batch=1)
    grouping = replace(network.grouping, refuge=Precision.BF16)
    plan = PrecisionPlan.of(dict.fromkeys(("a", "c", "head"), Precision.BF16))
    emitter = Emitter(network.graph, grouping, ranges)
    types = {node.name: node.outputs[0].dtype for node in emitter.strong(plan).graph}
    assert types["flat"] is types["a"] is ir.DataType.BFLOAT16
    assert set(emitter.constraints(plan).values()) == {Precision.FP32}
    expected = RUNTIME.load(network.graph).run({"input": x})["output"]
    found = RUNTIME.load(emitter.reference(plan)).run({"input": x})["output"]
    assert np.isfinite(found).all()
    assert deviation(expected, found) < 2**-6


def test_bf16_has_no_weak_flavour() -> None:
    network = exact_chain(0)
    plan = PrecisionPlan.uniform(network.grouping.groups, Precision.BF16)
    with pytest.raises(ModelError, match=r"TensorRT 8\.6\) cannot hold bf16, .* search with fp16"):
        typed_emitter(network, Precision.BF16).weak(plan)


def test_an_unforeseen_overflow_becomes_infinite() -> None:
    network = exact_chain(0, gain=64.0)
    x = np.full((1, 2, 4, 4), 1000, np.float32)
    plan = PrecisionPlan.uniform(network.grouping.groups, Precision.FP16, Precision.FP16)
    graph = emitter_of(network).reference(plan)
    assert np.isfinite(RUNTIME.load(network.graph).run({"input": x})["output"]).all()
    assert not np.isfinite(RUNTIME.load(graph).run({"input": x})["output"]).all()


def test_nodes_that_touch_a_tensor_beyond_half_stay_fp32() -> None:
    network = exact_chain(0, gain=64.0)
    x = np.full((1, 2, 4, 4), 1000, np.float32)
    ranges = network.calibrated(network.samples(x), batch=1)
    large = {name for name, observed in ranges.tensors.items() if observed.magnitude > 65504}
    assert large == {"a.out", "a.relu.out", "c.out", "add.out", "c.relu.out", "flat.out", "output"}
    plan = PrecisionPlan.uniform(network.grouping.groups, Precision.FP16, Precision.FP16)
    for graph in (emitter_of(network, ranges).reference(plan), emitter_of(network, ranges).strong(plan)):
        actual = RUNTIME.load(graph).run({"input": x})["output"]
        np.testing.assert_array_equal(actual, RUNTIME.load(network.graph).run({"input": x})["output"])
        assert not any(value.dtype is ir.DataType.FLOAT16 for node in graph.graph for value in node.outputs)


def test_an_fp32_group_is_not_rounded_and_its_neighbours_are() -> None:
    network = exact_chain(1)
    plan = PrecisionPlan.of({"a": Precision.FP32, "c": Precision.FP16, "head": Precision.FP32})
    emitter = emitter_of(network)
    graph = emitter.reference(plan)
    casts = {node.name for node in graph.graph if node.op_type == "Cast"}
    assert casts == {
        *("a.relu.out_half", "a.relu.out_half_rounded", "c.out_half", "c.out_half_rounded"),
        *("add.out_half", "add.out_half_rounded"),
    }
    strong = {node.name: node for node in emitter.strong(plan).graph}
    assert [strong[name].outputs[0].dtype for name in ("a", "a.relu", "c", "add", "c.relu", "flat", "head")] == [
        ir.DataType.FLOAT, ir.DataType.FLOAT, *[ir.DataType.FLOAT16] * 4, ir.DataType.FLOAT,
    ]  # fmt: skip


# Structure, operator by operator.

OPERATORS = {
    "two results": ("(float[n,6] x) => (float[n,3] y) { a, b = Split<axis=1>(x) y = Add(a, b) }", 17, ()),
    "cast from integers": ("(int64[n,4] x) => (float[n,4] y) { a = Cast<to=1>(x) y = Sqrt(a) }", 17, ()),
    "cast to integers": ("(float[n,4] x) => (int64[n,4] y) { a = Exp(x) y = Cast<to=7>(a) }", 17, ()),
    "constant of a shape": (
        "(float[n,4] x) => (float[n,4] y) { s = Shape(x) a = ConstantOfShape<value=float[1]{0.3}>(s) y = Add(x, a) }",
        17, ("a.node",),
    ),
    "zeros of a shape": (
        "(float[n,4] x) => (float[n,4] y) { s = Shape(x) a = ConstantOfShape(s) y = Max(x, a) }", 17, ("a.node",)
    ),
    "identity matrix": ("(float[4,4] x) => (float[4,4] y) { a = EyeLike<dtype=1>(x) y = Mul(x, a) }", 17, ("a.node",)),
    "float scales": (
        "(float[n,1,2,2] x) => (float[n,1,4,4] y) <float[4] s = {1,1,2,2}> { a = Exp(x) y = Resize(a, , s) }", 17, ()
    ),
    "younger than opset 19": ("(float[n,4] x) => (float[n,4] y) { a = Gelu(x) y = Neg(a) }", 20, ()),
    "axes that moved": (
        "(float[n,4,2] x) => (float[n,4] y) { a = Exp(x) y = ReduceMean<axes=[2],keepdims=0>(a) }", 17, ()
    ),
    "integer results": ("(float[n,4] x) => (int64[n,1] y) { a = Exp(x) y = ArgMax<axis=1>(a) }", 17, ()),
    "values and indices": (
        "(float[n,4] x) => (float[n,2] y, int64[n,2] i) <int64[1] k = {2}> { a = Exp(x) y, i = TopK<axis=1>(a, k) }",
        17, (),
    ),
    "comparison": (
        "(float[n,4] x) => (float[n,4] y) <float t = {0.1}, float z = {0.7}> { m = Greater(x, t) y = Where(m, x, z) }",
        17, (),
    ),
    "bound beyond half": (
        "(float[n,4] x) => (float[n,4] y) <float l = {0}, float h = {3.4e38}> { a = Exp(x) y = Clip(a, l, h) }",
        17, ("y.node",),
    ),
    "normalization": (
        "(float[n,4] x) => (float[n,4] y) <float[4] s = {1,2,3,4}, float[4] b = {0,1,2,3}> "
        "{ a = Exp(x) y = LayerNormalization(a, s, b) }", 17, (),
    ),
    "output that is read": ("(float[n,4] x) => (float[n,4] y, float[n,4] a) { a = Exp(x) y = Sqrt(a) }", 17, ()),
    "one node": ("(float[n,4] x) => (float[n,4] y) { y = Relu(x) }", 17, ()),
    "unfolded batch norm": (
        "(float[n,2,3] x) => (float[n,2,3] y) <float[2] s = {1,2}, float[2] b = {0,1}, float[2] m = {0.1,0.2}, "
        "float[2] v = {1,2}> { a = Exp(x) y = BatchNormalization(a, s, b, m, v) }", 17, (),
    ),
}  # fmt: skip


def feed(network: Prepared) -> dict[str, np.ndarray]:
    spec = network.model.inputs[0]
    shape = [size if isinstance(size, int) else 5 for size in spec.shape]
    random = np.random.default_rng(0)
    if spec.dtype == "int64":
        return {spec.name: random.integers(0, 9, shape)}
    return {spec.name: random.uniform(-1, 1, shape).astype(np.float32)}


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_is_valid_in_both_flavours_and_means_the_same(name: str) -> None:
    body, opset, _ = OPERATORS[name]
    network = prepare(parse(f"g {body}", opset))
    emitter, feeds = emitter_of(network), feed(network)
    exact = RUNTIME.load(network.graph).run(feeds)
    strong = run_plainly(checked(emitter.strong(NOTHING_QUANTIZED)), feeds)
    reference = run_plainly(checked(emitter.reference(NOTHING_QUANTIZED)), feeds)
    assert list(strong) == list(reference) == list(exact)
    for output, values in exact.items():
        assert strong[output].dtype == reference[output].dtype == values.dtype
        assert deviation(values, strong[output]) < 1e-3
        assert deviation(values, reference[output]) < 1e-3


@pytest.mark.parametrize("name", OPERATORS)
def test_every_result_is_half_except_where_onnx_or_the_range_forbids(name: str) -> None:
    body, opset, wide = OPERATORS[name]
    network = prepare(parse(f"g {body}", opset))
    graph = emitter_of(network).strong(NOTHING_QUANTIZED).graph
    original = {node.name for node in network.graph.graph}
    floats = {
        node.name: {value.dtype for value in node.outputs if value.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16)}
        for node in graph
        if node.name in original
    }
    assert {name for name, types in floats.items() if ir.DataType.FLOAT in types} == set(wide)
    signature = [(value.name, value.dtype) for value in (*network.graph.graph.inputs, *network.graph.graph.outputs)]
    assert [(value.name, value.dtype) for value in (*graph.inputs, *graph.outputs)] == signature


def test_reading_a_shape_costs_no_cast() -> None:
    network = prepare(parse("g (float[n,4] x) => (int64[2] y, float[n,4] z) { a = Exp(x) y = Shape(a) z = Neg(a) }"))
    graph = emitter_of(network).strong(NOTHING_QUANTIZED).graph
    assert [node.op_type for node in graph].count("Cast") == 2  # input to half, output to float
    network = prepare(parse("g (float[n,4] x) => (int64[2] y) { y = Shape(x) }"))
    for graph in (emitter_of(network).strong(NOTHING_QUANTIZED), emitter_of(network).reference(NOTHING_QUANTIZED)):
        assert [node.op_type for node in graph.graph] == ["Shape"]


def test_an_input_that_is_handed_out_is_not_rounded() -> None:
    network = prepare(
        parse("g (float[n,4] x) => (float[n,4] y, float[n,4] z) { y = Identity(x) a = Exp(x) z = Neg(a) }")
    )
    feeds = feed(network)
    for graph in (emitter_of(network).strong(NOTHING_QUANTIZED), emitter_of(network).reference(NOTHING_QUANTIZED)):
        np.testing.assert_array_equal(run_plainly(checked(graph), feeds)["y"], feeds["x"])


def test_one_tensor_is_cast_once_for_all_its_readers() -> None:
    body = "(float[n,4] x) => (float[n,4] y) { a = Exp(x) b = Sin(x) c = Neg(x) d = Add(a, b) y = Add(c, d) }"
    graph = emitter_of(prepare(parse(f"g {body}"))).strong(NOTHING_QUANTIZED).graph
    assert [node.op_type for node in graph].count("Cast") == 2


def test_values_that_are_only_moved_are_rounded_once() -> None:
    body = "(float[n,4] x) => (float[n,4] y) { a = Exp(x) b = Relu(a) c = Transpose<perm=[0,1]>(b) y = Flatten(c) }"
    graph = emitter_of(prepare(parse(f"g {body}"))).reference(NOTHING_QUANTIZED).graph
    casts = [node.name for node in graph if node.op_type == "Cast"]
    assert casts == ["x_half", "x_half_rounded", "a_half", "a_half_rounded"]


def test_names_of_the_model_that_look_like_ours_are_kept_apart() -> None:
    body = (
        "(float[n,4] x) => (float[n,4] y) <float c = {0.5}, float c_fp16 = {0.25}, float c_rounded = {0.125}> "
        "{ x_fp16 = Mul(x, c) x_half = Mul(x_fp16, c_fp16) x_half_rounded = Exp(x_half) "
        "y = Mul(x_half_rounded, c_rounded) }"
    )
    network = prepare(parse(f"g {body}"))
    feeds = feed(network)
    expected = RUNTIME.load(network.graph).run(feeds)["y"]
    for graph in (emitter_of(network).strong(NOTHING_QUANTIZED), emitter_of(network).reference(NOTHING_QUANTIZED)):
        assert deviation(expected, run_plainly(checked(graph), feeds)["y"]) < 1e-3


def test_capability_follows_schema_constants_and_ranges() -> None:
    body = (
        "(float[n,4] x, int64[n,4] i) => (float[n,4] y, int64[n,4] j) <float big = {1e5}, int64 one = {1}> "
        "{ a = Exp(x) b = Mul(a, big) y = Neg(b) j = Add(i, one) }"
    )
    graph = prepare(parse(f"g {body}")).graph
    assert half_capable(graph, UNKNOWN, Precision.FP16) == {"a.node", "y.node"}
    beyond = Ranges({}, 1, {"a": TensorRange(-70000.0, 0.0)})
    assert half_capable(graph, beyond, Precision.FP16) == {"y.node"}
    within = Ranges({}, 1, {"a": TensorRange(-65504.0, 65504.0)})
    assert half_capable(graph, within, Precision.FP16) == {"a.node", "y.node"}
