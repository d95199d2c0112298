"""Groups by structure. Goldens in golden/groups are rewritten by ``python -m tests.groups.test_groups DATA_FOLDER``."""

from __future__ import annotations

import re
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, parser

from tests.networks import NETWORKS
from tests.prepared import with_observed
from tests.transformers import TRANSFORMERS
from trt_mpq.errors import ModelError
from trt_mpq.groups import describe_groups, groups_from_model
from trt_mpq.groups.exclusions import source_of
from trt_mpq.model import load_graph, prepare_model
from trt_mpq.runtime.onnxruntime import OnnxRuntime
from trt_mpq.types import Grouping, LayerGroup, Precision

ALL = {**NETWORKS, **TRANSFORMERS}
GOLDEN = Path(__file__).parents[1] / "golden" / "groups"
REAL = {
    "resnet20": "cifar10/resnet20.onnx",
    "resnet56": "cifar10/resnet56.onnx",
    "mobilenet": "imagenet/mobilenet_v1_075_224.onnx",
    "minilm": "minilm/minilm_l6_v2.onnx",
}
QUANTIZED = (Precision.FP8, Precision.INT8, Precision.INT4)


def prepared(source: Path, folder: Path) -> ir.Model:
    prepare_model(source, folder / "prepared.onnx")
    return load_graph(folder / "prepared.onnx")


def network(name: str, folder: Path) -> ir.Model:
    (folder / "source.onnx").write_bytes(ALL[name]().SerializeToString())
    return prepared(folder / "source.onnx", folder)


def sample_shapes(graph: ir.Model, tokens: int = 64) -> dict[str, tuple[int, ...]]:
    """One sample per input, and what only a run can tell; a dynamic dimension behind the batch is `tokens`."""
    fed = {
        v.name: tuple(d if isinstance(d, int) else tokens if axis else 1 for axis, d in enumerate(v.shape))
        for v in graph.graph.inputs
    }
    return with_observed(graph, fed)


def grouping_of(graph: ir.Model) -> Grouping:
    return groups_from_model(graph, sample_shapes(graph))


def from_text(body: str, weights: dict[str, tuple[int, ...] | np.ndarray], opset: int = 17) -> ir.Model:
    """A graph from ONNX text; weights are ones of a shape, or arrays. Node names are op_type.output."""
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["":{opset}]> {body}')
    for name, value in weights.items():
        array = value if isinstance(value, np.ndarray) else np.ones(value, np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    for node in proto.graph.node:
        node.name = node.output[0]
    return ir.from_proto(proto)


def grouped(body: str, weights: dict[str, tuple[int, ...] | np.ndarray], opset: int = 17) -> Grouping:
    graph = from_text(body, weights, opset)
    return groups_from_model(graph, sample_shapes(graph), exclusions="none")


def nodes_of(grouping: Grouping) -> list[tuple[str, ...]]:
    return [group.nodes for group in grouping.groups]


# Goldens: read them in a diff.


@pytest.mark.parametrize("name", ALL)
def test_networks_match_their_golden(name: str, tmp_path: Path) -> None:
    assert describe_groups(grouping_of(network(name, tmp_path))) == (GOLDEN / f"{name}.txt").read_text()


@pytest.mark.data
@pytest.mark.parametrize("name", REAL)
def test_real_models_match_their_golden(name: str, data_dir: Path, tmp_path: Path) -> None:
    graph = prepared(data_dir / REAL[name], tmp_path)
    assert describe_groups(grouping_of(graph)) == (GOLDEN / f"{name}.txt").read_text()


@pytest.mark.data
def test_resnet20_is_grouped_as_tensorrt_fuses_it(data_dir: Path, tmp_path: Path) -> None:
    graph = prepared(data_dir / REAL["resnet20"], tmp_path)
    grouping = grouping_of(graph)
    convolutions = [node.name for node in graph.graph if node.op_type in ("Conv", "Gemm")]
    assert [group.id for group in grouping.groups] == convolutions
    second = [group for group in grouping.groups if group.id.endswith("conv2/Conv")]
    assert len(second) == 9
    assert all(re.fullmatch(r".*/Add .*/Relu_1", " ".join(group.nodes[1:])) for group in second)
    shortcuts = [group.inputs[1].tensor for group in second]
    assert [name for name in shortcuts if "Pad" in name] == [
        "/layer2/layer2.0/Pad_output_0",
        "/layer3/layer3.0/Pad_output_0",
    ]
    assert {op.op_type for op in grouping.loose} == {"Slice", "Pad", "ReduceMean"}


# Laws.


@pytest.mark.parametrize("name", ALL)
def test_every_node_is_in_one_place(name: str, tmp_path: Path) -> None:
    graph = network(name, tmp_path)
    grouping = grouping_of(graph)
    placed = [node for group in grouping.groups for node in group.nodes] + [op.node for op in grouping.loose]
    floats = {node.name for node in graph.graph for v in (*node.inputs, *node.outputs) if v.dtype is ir.DataType.FLOAT}
    computing = [node.name for node in graph.graph if node.name in floats and node.op_type != "Shape"]
    assert sorted(placed) == sorted(computing)


@pytest.mark.parametrize("name", ALL)
def test_names_do_not_matter(name: str, tmp_path: Path) -> None:
    graph = network(name, tmp_path)
    expected = describe_groups(grouping_of(graph))
    random = np.random.default_rng(0)
    renamed = graph.clone()
    original: dict[str, str] = {}

    def fresh(old: str | None) -> str:
        new = f"n{random.integers(1 << 60)}"
        original[new] = str(old)
        return new

    for node in renamed.graph:
        node.name = fresh(node.name)
        for value in node.outputs:
            value.name = fresh(value.name)
    for value in (*renamed.graph.inputs, *list(renamed.graph.initializers.values())):
        value.name = fresh(value.name)
    description = describe_groups(grouping_of(renamed))
    assert re.sub(r"n\d+", lambda match: original[match[0]], description) == expected


@pytest.mark.parametrize("name", ALL)
def test_the_graph_given_is_not_changed(name: str, tmp_path: Path) -> None:
    graph = network(name, tmp_path)
    before = ir.to_proto(graph)
    grouping_of(graph)
    assert ir.to_proto(graph) == before


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[str, dict[str, object], tuple[int, ...], tuple[int, ...]]:
    """Operator, attributes, input shape and weight shape of an unpadded convolution."""
    group, per_group_in, per_group_out = (draw(st.integers(1, 3)) for _ in range(3))
    kernel = draw(st.lists(st.integers(1, 3), min_size=1, max_size=2))
    size = [draw(st.integers(5, 8)) for _ in kernel]
    op_type = draw(st.sampled_from(["Conv", "ConvTranspose"]))
    strides = [draw(st.integers(1, 2)) for _ in kernel]
    weight = (
        (group * per_group_out, per_group_in, *kernel)
        if op_type == "Conv"
        else (group * per_group_in, per_group_out, *kernel)
    )
    attributes = {"group": group, "kernel_shape": kernel, "strides": strides}
    return op_type, attributes, (1, group * per_group_in, *size), weight


@settings(max_examples=30, deadline=None)
@given(convolutions())
def test_flops_count_every_multiplication(
    case: tuple[str, dict[str, object], tuple[int, ...], tuple[int, ...]],
) -> None:
    """With ones everywhere and no padding, each multiply-add adds one to the sum of the output."""
    op_type, attributes, x_shape, w_shape = case
    node = helper.make_node(op_type, ["x", "w"], ["y"], name="y", **attributes)
    weight = numpy_helper.from_array(np.ones(w_shape, np.float32), "w")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *x_shape[1:]])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * len(x_shape))
    proto = helper.make_model(
        helper.make_graph([node], "g", [x], [y], [weight]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    output = OnnxRuntime(threads=1).load(ir.from_proto(proto)).run({"x": np.ones(x_shape, np.float32)})["y"]
    group = groups_from_model(ir.from_proto(proto), {"x": x_shape}, exclusions="none").groups[0]
    assert group.flops == 2 * output.sum()
    assert (group.input_elements, group.output_elements) == (np.prod(x_shape), output.size)


# Fusion.

CONV = {"w": (4, 4, 1, 1)}


def test_residual_add_joins_the_later_convolution() -> None:
    body = """g (float[N,4,5,5] x) => (float[N,4,5,5] y) {
        a = Conv(x, w) b = Conv(x, v) s = Add(b, a) y = Relu(s) }"""
    grouping = grouped(body, {**CONV, "v": (4, 4, 1, 1)})
    assert nodes_of(grouping) == [("a",), ("b", "s", "y")]
    residual = grouping.groups[1].inputs[1]
    assert (residual.tensor, residual.node, residual.index, residual.role) == ("a", "s", 1, "residual")
    assert grouping.groups[1].flops == 2 * 4 * 100
    assert grouping.groups[1].input_elements == 200


def test_residual_add_joins_the_earlier_one_if_the_later_is_read_twice() -> None:
    body = """g (float[N,4,5,5] x) => (float[N,4,5,5] y, float[N,4,5,5] z) {
        a = Conv(x, w) b = Conv(x, v) y = Add(a, b) z = Neg(b) }"""
    grouping = grouped(body, {**CONV, "v": (4, 4, 1, 1)})
    assert nodes_of(grouping) == [("a", "y"), ("b",)]
    assert grouping.groups[0].inputs[1].tensor == "b"


def test_residual_from_the_network_input() -> None:
    grouping = grouped("g (float[N,4,5,5] x) => (float[N,4,5,5] y) { a = Conv(x, w) y = Add(x, a) }", CONV)
    assert nodes_of(grouping) == [("a", "y")]
    assert [site.tensor for site in grouping.groups[0].inputs] == ["x", "x"]


NOT_FUSED = {
    "activation ends the chain": "r = Relu(a) y = Add(r, x)",
    "broadcast": "m = GlobalAveragePool(x) y = Add(a, m)",
    "added to itself": "y = Add(a, a)",
    "constant of full shape": "y = Add(a, full)",
    "scalar constant": "y = Add(a, one)",
    "multiplication": "y = Mul(a, x)",
    "softmax": "y = Softmax(a)",
    "clip by a computed bound": "m = ReduceMax<keepdims=0>(x) y = Clip(a, m)",
    "two readers": "r = Relu(a) n = Neg(a) y = Mul(r, n)",
    "gate read twice": "s = Sigmoid(a) m = Mul(a, s) y = Sub(m, s)",
}


@pytest.mark.parametrize("case", NOT_FUSED)
def test_not_fused(case: str) -> None:
    body = f"g (float[N,4,5,5] x) => (float[N,4,5,5] y) {{ a = Conv(x, w) {NOT_FUSED[case]} }}"
    nodes = nodes_of(grouped(body, {**CONV, "full": (1, 4, 5, 5), "one": (1,)}))
    assert nodes == ([("a", "r")] if "ends" in case else [("a",)])


def test_network_output_in_between_is_not_fused() -> None:
    body = "g (float[N,4,5,5] x) => (float[N,4,5,5] a, float[N,4,5,5] y) { a = Conv(x, w) y = Relu(a) }"
    assert nodes_of(grouped(body, CONV)) == [("a",)]


ACTIVATIONS = ["Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSwish", "HardSigmoid", "Elu", "Softplus"]


@pytest.mark.parametrize("operator", ACTIVATIONS)
def test_one_activation_is_fused(operator: str) -> None:
    body = f"g (float[N,4,5,5] x) => (float[N,4,5,5] y) {{ a = Conv(x, w) r = {operator}(a) y = Relu(r) }}"
    grouping = grouped(body, CONV)
    assert nodes_of(grouping) == [("a", "r")]
    assert [op.node for op in grouping.loose] == ["y"]


def test_gelu_is_fused() -> None:
    body = "g (float[N,4,5,5] x) => (float[N,4,5,5] y) { a = Conv(x, w) y = Gelu(a) }"
    assert nodes_of(grouped(body, CONV, opset=20)) == [("a", "y")]


@pytest.mark.parametrize("gate", ["Sigmoid", "HardSigmoid"])
@pytest.mark.parametrize("order", ["a, s", "s, a"])
def test_swish_is_fused(gate: str, order: str) -> None:
    body = f"g (float[N,4,5,5] x) => (float[N,4,5,5] y) {{ a = Conv(x, w) s = {gate}(a) y = Mul({order}) }}"
    assert nodes_of(grouped(body, CONV)) == [("a", "s", "y")]


@pytest.mark.parametrize("shape", [(4, 1, 1), (1, 4, 1, 1)])
def test_constant_per_channel_is_a_bias(shape: tuple[int, ...]) -> None:
    body = "g (float[N,4,5,5] x) => (float[N,4,5,5] y) { a = Conv(x, w) s = Add(c, a) y = Relu(s) }"
    grouping = grouped(body, {**CONV, "c": shape})
    assert nodes_of(grouping) == [("a", "s", "y")]
    assert grouping.groups[0].weight.bias == "c"
    assert len(grouping.groups[0].inputs) == 1


def test_bias_of_the_convolution_comes_first() -> None:
    body = "g (float[N,4,5,5] x) => (float[N,4,5,5] y) { a = Conv(x, w, b) y = Add(a, c) }"
    assert grouped(body, {**CONV, "b": (4,), "c": (4, 1, 1)}).groups[0].weight.bias == "b"


def test_constant_along_another_axis_is_no_bias() -> None:
    body = "g (float[N,4,5,4] x) => (float[N,4,5,4] y) { a = Conv(x, w) y = Add(a, c) }"
    assert nodes_of(grouped(body, {**CONV, "c": (4,)})) == [("a",)]


def test_bias_and_activation_of_a_matmul() -> None:
    body = """g (float[N,7,8] x) => (float[N,7,8] y) {
        a = MatMul(x, w) b = Add(c, a) y = Relu(b) }"""
    group = grouped(body, {"w": (8, 8), "c": (8,)}).groups[0]
    assert group.nodes == ("a", "b", "y")
    assert (group.weight.bias, group.weight.axis, group.weight.channel_axis) == ("c", 1, 2)
    assert group.flops == 2 * 7 * 8 * 8


# Anchors.


@pytest.mark.parametrize(
    ("call", "x", "w", "axis", "flops"),
    [
        ("Conv(x, w)", (1, 4, 5, 5), (6, 4, 3, 3), 0, 2 * 6 * 9 * 4 * 9),
        ("Conv<group=4>(x, w)", (1, 4, 5, 5), (4, 1, 3, 3), 0, 2 * 4 * 9 * 9),
        ("ConvTranspose<strides=[2,2]>(x, w)", (1, 4, 5, 5), (4, 6, 2, 2), 1, 2 * 4 * 25 * 6 * 4),
        ("ConvTranspose<group=2>(x, w)", (1, 4, 5, 5), (4, 3, 3, 3), 1, 2 * 4 * 25 * 3 * 9),
        ("Gemm(x, w)", (1, 5), (5, 7), 1, 2 * 5 * 7),
        ("Gemm<transB=1>(x, w)", (1, 5), (7, 5), 0, 2 * 5 * 7),
        ("MatMul(x, w)", (1, 3, 5), (5, 7), 1, 2 * 3 * 5 * 7),
        ("MatMul(x, w)", (1, 3, 4, 5), (3, 5, 7), None, 2 * 3 * 4 * 5 * 7),
    ],
)
def test_weight_axis_and_flops(call: str, x: tuple[int, ...], w: tuple[int, ...], axis: int | None, flops: int) -> None:
    dims = ",".join(map(str, ("N", *x[1:])))
    out = ",".join(f"d{i}" for i in range(len(x)))
    group = grouped(f"g (float[{dims}] x) => (float[{out}] y) {{ y = {call} }}", {"w": w}).groups[0]
    assert (group.weight.axis, group.flops, group.weight.shape) == (axis, flops, w)
    assert group.weight.channel_axis == (1 if "MatMul" not in call else len(x) - 1)
    assert (group.weight.index, group.weight.rank, group.inputs[0].index) == (1, len(x), 0)


@pytest.mark.parametrize(
    ("call", "x", "w", "axis", "flops"),
    [
        ("MatMul(w, x)", (1, 5, 3), (7, 5), 0, 2 * 7 * 5 * 3),
        ("MatMul(w, x)", (1, 4, 5, 3), (4, 7, 5), None, 2 * 4 * 7 * 5 * 3),
        ("Gemm(w, x)", (5, 3), (7, 5), 0, 2 * 7 * 5 * 3),
        ("Gemm<transA=1>(w, x)", (5, 3), (5, 7), 1, 2 * 7 * 5 * 3),
        ("Gemm<transB=1>(w, x, column)", (3, 5), (7, 5), 0, 2 * 7 * 5 * 3),
    ],
)
def test_a_weight_on_the_left_has_a_scale_per_row_of_the_result(
    call: str, x: tuple[int, ...], w: tuple[int, ...], axis: int | None, flops: int
) -> None:
    dims, out = ",".join(map(str, x)), ",".join(f"d{i}" for i in range(len(x)))
    body = f"g (float[{dims}] x) => (float[{out}] y) {{ y = {call} }}"
    (group,) = grouped(body, {"w": w, "column": (7, 1)}).groups
    weight, (read,) = group.weight, group.inputs
    assert (weight.axis, group.flops, weight.shape, weight.index) == (axis, flops, w, 0)
    assert (weight.channel_axis, weight.rank) == (len(x) - 2, len(x))
    assert (read.tensor, read.index, read.role) == ("x", 1, "input")


def test_what_is_added_per_row_is_the_bias_of_a_weight_on_the_left() -> None:
    body = "g (float[N,4,4] x) => (float y) {{ p = MatMul(w, x) a = Add(p, {bias}) y = Relu(a) }}"
    constants = {"w": (4, 4), "column": (4, 1), "row": (4,)}
    (joined,) = grouped(body.format(bias="column"), constants).groups
    (apart,) = grouped(body.format(bias="row"), constants).groups
    assert (joined.nodes, joined.weight.bias) == (("p", "a", "y"), "column")
    assert (apart.nodes, apart.weight.bias) == (("p",), None)


def test_products_of_one_tensor_with_weights_on_one_side_are_one_group() -> None:
    body = """g (float[N,4,4] x) => (float y) {
        a = MatMul(w, x) b = MatMul(v, x) c = MatMul(x, u) s = Add(a, b) y = Add(s, c) }"""
    grouping = grouped(body, {"w": (4, 4), "v": (4, 4), "u": (4, 4)})
    assert [tuple(w.node for w in group.weights) for group in grouping.groups] == [("a", "b"), ("c",)]


def test_a_weight_that_is_left_and_right_has_no_common_scales() -> None:
    body = "g (float[N,4,4] x) => (float y) { a = MatMul(w, x) c = MatMul(x, w) y = Add(a, c) }"
    groups = grouped(body, {"w": (4, 4)}).groups
    assert all("shared along different axes" in group.excluded[Precision.INT8] for group in groups)


LOOSE = {
    "vector on the left": ("MatMul(w, x)", (4,)),
    "both computed": ("Gemm(x, x)", ()),
    "vector": ("MatMul(x, w)", (4,)),
    "third input per row": ("Gemm(x, w, rows)", (4, 4)),
    "third input per column of a weight on the left": ("Gemm(w, x, columns)", (4, 4)),
    "third input computed": ("Gemm(x, w, x)", (4, 4)),
}


@pytest.mark.parametrize("case", LOOSE)
def test_weighted_operators_that_are_no_anchor(case: str) -> None:
    call, shape = LOOSE[case]
    body = f"g (float[4,4] x) => (float y) {{ z = {call} y = Relu(z) }}"
    grouping = grouped(body, {"w": shape, "rows": (4, 4), "columns": (4,)})
    assert not grouping.groups
    assert [op.node for op in grouping.loose] == ["z", "y"]


def test_integers_are_neither_grouped_nor_loose() -> None:
    body = """g (float[N,4] x, int64[N,4] i) => (float[N,4] y, int64[N,4] j) {
        s = Shape(x) j = MatMul(i, k) r = Reshape(x, s) y = Relu(r) }"""
    grouping = grouped(body, {"k": np.ones((4, 4), np.int64)})
    assert not grouping.groups
    assert [op.node for op in grouping.loose] == ["r", "y"]


def test_loose_op_counts_elements() -> None:
    body = """g (float[N,4,6,6] x) => (float y, float z) {
        y = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x) z, t = Split<axis=1>(x) }"""
    pool, split = grouped(body, {}).loose
    assert (pool.inputs, pool.output, pool.input_elements, pool.output_elements) == (("x",), "y", 144, 36)
    assert (split.output, split.output_elements) == ("z", 144)


# Weights.


def test_weight_shared_along_one_axis_is_allowed() -> None:
    body = "g (float[N,4,5,5] x) => (float[N,4,5,5] y) { a = Conv(x, w) y = Conv(a, w) }"
    assert all(not group.excluded for group in grouped(body, CONV).groups)


def test_weight_shared_along_different_axes_stays_in_high_precision() -> None:
    body = "g (float[N,4] x) => (float[N,4] y) { a = Gemm(x, w) y = Gemm<transB=1>(a, w) }"
    for group in grouped(body, {"w": (4, 4)}).groups:
        assert set(group.excluded) == {precision for precision in Precision if precision.quantized}
        assert group.excluded[Precision.INT8] == "weight w is shared along different axes by a, y"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weight_that_is_not_finite(value: float) -> None:
    weight = np.ones((4, 4, 1, 1), np.float32)
    weight[2, 1] = value
    with pytest.raises(ModelError, match="weight w holds NaN or infinite values"):
        grouped("g (float[N,4,5,5] x) => (float[N,4,5,5] y) { y = Conv(x, w) }", {"w": weight})


def test_weight_of_zeros_is_fine() -> None:
    weight = np.zeros((4, 4, 1, 1), np.float32)
    grouping = grouped("g (float[N,4,5,5] x) => (float[N,4,5,5] y) { y = Conv(x, w) }", {"w": weight})
    assert not grouping.groups[0].excluded


# Exclusions.


def reasons(
    body: str, weights: dict[str, tuple[int, ...]], index: int = -1, capability: int | None = None
) -> dict[Precision, str]:
    graph = from_text(body, weights)
    return dict(groups_from_model(graph, sample_shapes(graph), capability=capability).groups[index].excluded)


def conv_reasons(
    channels: tuple[int, int], kernel: int = 3, group: int = 1, capability: int | None = None
) -> dict[Precision, str]:
    """Exclusions of a convolution behind another one."""
    body = f"""g (float[N,3,64,64] x) => (float[N,c,h,w_] y) {{
        a = Conv(x, first) y = Conv<group={group}>(a, w) }}"""
    shape = (channels[1], channels[0] // group, kernel, kernel)
    return reasons(body, {"first": (channels[0], 3, 1, 1), "w": shape}, capability=capability)


def test_wide_convolution_may_run_in_everything() -> None:
    assert conv_reasons((32, 24)) == {}


@pytest.mark.parametrize(
    ("channels", "text"),
    [
        ((8, 32), "8 input channels are fewer than 16"),
        ((32, 8), "8 output channels are fewer than 16"),
        ((20, 32), "20 input channels are not a multiple of 8"),
        ((32, 20), "20 output channels are not a multiple of 8"),
    ],
)
def test_narrow_or_misaligned_convolution(channels: tuple[int, int], text: str) -> None:
    found = conv_reasons(channels)
    assert set(found) == set(QUANTIZED)
    assert found[Precision.INT8] == found[Precision.INT4] == text


@pytest.mark.parametrize(("capability", "runs"), [(None, False), (90, False), (86, False), (89, True), (120, True)])
def test_few_channels_run_in_fp8_where_nvidias_compiler_has_such_kernels(capability: int | None, runs: bool) -> None:
    for channels in ((16, 16), (8, 32), (32, 20)):
        assert (Precision.FP8 not in conv_reasons(channels, capability=capability)) == runs
    first = reasons(
        "g (float[N,3,64,64] x) => (float[N,32,62,62] y) { y = Conv(x, w) }",
        {"w": (32, 3, 3, 3)},
        capability=capability,
    )
    assert (first == {}) == runs


@pytest.mark.parametrize(("capability", "runs"), [(None, False), (90, False), (87, False), (80, True), (120, True)])
def test_what_fills_no_tile_runs_in_int8_where_nvidias_compiler_has_such_kernels(
    capability: int | None, runs: bool
) -> None:
    for channels in ((8, 32), (32, 8), (20, 32)):
        assert (Precision.INT8 not in conv_reasons(channels, capability=capability)) == runs
    body = "g (float[N,13] x) => (float[N,5] y) { y = MatMul(x, w) }"
    assert (Precision.INT8 not in reasons(body, {"w": (13, 5)}, capability=capability)) == runs


def test_a_matrix_times_a_vector_stays_out_wherever() -> None:
    body = "g (float[N,32] x) => (float[N,1] y) { y = MatMul(x, w) }"
    text = "matrix times vector, bound by memory"
    assert set(reasons(body, {"w": (32, 1)}, capability=89).values()) == {text}


@pytest.mark.parametrize("capability", [None, 89, 120])
def test_large_fp8_kernels_stay_out_wherever(capability: int | None) -> None:
    """They compile, but to kernels with FP16 operands."""
    assert conv_reasons((32, 32), kernel=7, capability=capability) == {
        Precision.FP8: "no FP8 kernel for a kernel volume of 49, above 32"
    }


def test_first_layer_may_have_few_channels_in_integers() -> None:
    body = "g (float[N,3,9,9] x) => (float[N,c,h,w_] y) { n = Sub(x, x) y = Conv(n, w) }"
    assert reasons(body, {"w": (16, 3, 3, 3)}) == {Precision.FP8: "3 channels are not more than 16"}


@pytest.mark.parametrize(("channels", "excluded"), [(24, {Precision.FP8}), (20, set(QUANTIZED))])
def test_depthwise_convolution_counts_channels_only(channels: int, excluded: set[Precision]) -> None:
    assert set(conv_reasons((channels, channels), group=channels)) == excluded


@pytest.mark.parametrize(
    ("group", "capability", "stays_out"), [(1, 90, False), (4, 90, True), (32, None, True), (32, 89, False)]
)
def test_grouped_fp8_convolutions_run_where_the_compiler_was_seen_to_run_them(
    group: int, capability: int | None, stays_out: bool
) -> None:
    reason = {Precision.FP8: "no optimized FP8 kernel for grouped convolutions"}
    assert conv_reasons((32, 32), group=group, capability=capability) == (reason if stays_out else {})


@pytest.mark.parametrize(("capability", "stays_out"), [(75, True), (86, True), (89, True), (87, False), (90, False)])
def test_int8_deconvolutions_stay_out_where_tensorrt_for_rtx_serves_the_gpu(capability: int, stays_out: bool) -> None:
    body = "g (float[N,32,9,9] x) => (float[N,c,h,w_] y) { y = ConvTranspose(x, w) }"
    found = reasons(body, {"w": (32, 32, 2, 2)}, capability=capability)
    assert found.get(Precision.INT8) == ("no INT8 kernel for ConvTranspose" if stays_out else None)


def test_every_rule_says_where_it_is_from() -> None:
    """Whatever of these a shape breaks; what a format cannot do at all is no rule."""
    convolution = "g (float[N,32,9,9] x) => (float[N,c,h,w_] y) { y = ConvTranspose(x, w) }"
    product = "g (float[N,13] x) => (float[N,k] y) { y = MatMul(x, w) }"
    broken = [
        *(conv_reasons(channels) for channels in ((8, 32), (32, 36), (16, 32))),
        conv_reasons((32, 32), kernel=7),
        *(conv_reasons((channels, channels), group=channels) for channels in (20, 24)),
        reasons(convolution, {"w": (32, 32, 2, 2)}, capability=89),
        *(reasons(product, {"w": (13, columns)}) for columns in (32, 1)),
    ]
    assert all(broken)
    assert None not in {source_of(reason) for found in broken for reason in found.values()}
    assert source_of("w8a16 is for matrix products with a constant weight") is None


def test_fp8_limits() -> None:
    assert conv_reasons((16, 32)) == {Precision.FP8: "16 channels are not more than 16"}
    assert conv_reasons((32, 32), kernel=6) == {Precision.FP8: "no FP8 kernel for a kernel volume of 36, above 32"}
    assert conv_reasons((32, 32), kernel=5) == {}
    body = "g (float[N,32,9,9] x) => (float[N,c,h,w_] y) { y = ConvTranspose(x, w) }"
    assert reasons(body, {"w": (32, 32, 2, 2)}) == {Precision.FP8: "no FP8 kernel for ConvTranspose"}


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((32, 10), "N = 10 is below 16"),
        ((12, 32), "K = 12 is below 16"),
        ((32, 1), "matrix times vector, bound by memory"),
    ],
)
def test_small_matrix_products(shape: tuple[int, int], text: str) -> None:
    found = reasons(f"g (float[N,{shape[0]}] x) => (float[N,m] y) {{ y = MatMul(x, w) }}", {"w": shape})
    assert found == dict.fromkeys(QUANTIZED, text)


def test_one_row_is_a_vector_only_if_the_batch_is_fixed() -> None:
    assert reasons("g (float[N,32] x) => (float[N,m] y) { y = MatMul(x, w) }", {"w": (32, 32)}) == {}
    fixed = reasons("g (float[1,32] x) => (float[1,m] y) { y = MatMul(x, w) }", {"w": (32, 32)})
    assert fixed == dict.fromkeys(QUANTIZED, "matrix times vector, bound by memory")
    rows = reasons("g (float[1,9,32] x) => (float[1,9,m] y) { y = MatMul(x, w) }", {"w": (32, 32)})
    assert rows == {}


def test_exclusions_can_be_left_out(tmp_path: Path) -> None:
    graph = network("depthwise_cnn", tmp_path)
    free = groups_from_model(graph, sample_shapes(graph), exclusions="none")
    assert all(group.allows(precision) for group in free.groups for precision in Precision)
    assert _without_exclusions(free) == _without_exclusions(grouping_of(graph))


def _without_exclusions(grouping: Grouping) -> list[LayerGroup]:
    return [replace(group, excluded={}) for group in grouping.groups]


# Shared scales.

TWO_CONVS = {"w": (4, 4, 1, 1), "v": (4, 4, 1, 1)}


@pytest.mark.parametrize(
    "between",
    [
        "MaxPool<kernel_shape=[1,1]>(r)",
        "Transpose<perm=[0,1,3,2]>(r)",
        "Identity(r)",
        "Slice(r, zeros, fives)",
        "Gather<axis=3>(r, fives)",
        'Pad<mode="reflect">(r, pads)',
        "Pad(r, pads)",
        "Pad(r, pads, zero)",
    ],
)
def test_both_sides_of_a_move_share_a_scale(between: str) -> None:
    assert _scales(between) == (("r", "m"),)


@pytest.mark.parametrize(
    "between", ["Relu(r)", "Pad(r, pads, one)", "AveragePool<kernel_shape=[1,1]>(r)", "Neg(r)", "Gather(r, i)"]
)
def test_both_sides_of_arithmetic_do_not(between: str) -> None:
    assert _scales(between) == ()


def _scales(between: str) -> tuple[tuple[str, ...], ...]:
    body = f"""g (float[N,4,6,6] x, int64[4] i) => (float y) {{
        a = Conv(x, w) r = Relu(a) m = {between} y = Conv(m, v) }}"""
    constants = {
        "zeros": np.zeros(4, np.int64),
        "fives": np.array([1, 4, 5, 5]),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "zero": np.float32(0),
        "one": np.float32(1),
    }
    return grouped(body, {**TWO_CONVS, **{k: np.asarray(v) for k, v in constants.items()}}).shared_scales


def test_concat_ties_all_operands_and_chains_of_moves_join() -> None:
    body = """g (float[N,4,6,6] x) => (float y, float z) {
        a = Conv(x, w) b = Conv(x, v) c = Concat<axis=1>(a, b, k)
        p = MaxPool<kernel_shape=[2,2]>(c) y = Conv(p, u) q = MaxPool<kernel_shape=[2,2]>(x) z = Neg(q) }"""
    weights = {**TWO_CONVS, "k": (1, 4, 6, 6), "u": (4, 12, 1, 1)}
    assert grouped(body, weights).shared_scales == (("a", "b", "c", "p"), ("x", "q"))


def test_sets_without_a_quantized_tensor_are_left_out() -> None:
    body = "g (float[N,4] x) => (float y) { r = Relu(x) t = Transpose(r) y = Neg(t) }"
    assert grouped(body, {}).shared_scales == ()


# Shapes.


def test_shape_computed_from_the_batch_is_found() -> None:
    body = """g (float[N,4,5,5] x) => (float y) {
        s = Shape(x) n = Gather(s, zero) u = Unsqueeze(n, zeros) d = Concat<axis=0>(u, rest)
        r = Reshape(x, d) y = MatMul(r, w) }"""
    constants = {"zero": np.asarray(0), "zeros": np.zeros(1, np.int64), "rest": np.array([-1])}
    assert grouped(body, {"w": (100, 8), **constants}).groups[0].flops == 2 * 100 * 8


def test_shape_that_only_a_run_can_tell() -> None:
    body = "g (float[N,4] x) => (float y) { n = NonZero(x) c = Cast<to=1>(n) t = Transpose(c) y = MatMul(t, w) }"
    graph, fed = from_text(body, {"w": (2, 8)}), {"x": (1, 4)}
    observed = {"n": (2, 3), "c": (2, 3), "t": (3, 2), "y": (3, 8)}
    assert groups_from_model(graph, fed | observed, "none").groups[0].flops == 2 * 3 * 2 * 8
    with pytest.raises(ModelError, match=r"shape of tensor y, the output of a MatMul neither .* nor was observed"):
        groups_from_model(graph, fed)


@pytest.mark.parametrize("shape", [(1, 5), (4,), (1, 4, 1)])
def test_samples_of_another_shape(shape: tuple[int, ...]) -> None:
    graph = from_text("g (float[N,4] x) => (float[N,m] y) { y = MatMul(x, w) }", {"w": (4, 8)})
    with pytest.raises(ModelError, match=r"input x has shape \(N, 4\), the samples have"):
        groups_from_model(graph, {"x": shape})


def test_no_sample_for_a_dynamic_input() -> None:
    graph = from_text("g (float[N,4] x) => (float[N,m] y) { y = MatMul(x, w) }", {"w": (4, 8)})
    with pytest.raises(ModelError, match=r"input x has shape \(N, 4\) and no sample"):
        groups_from_model(graph, {})


def test_static_inputs_need_no_sample() -> None:
    graph = from_text("g (float[2,4] x) => (float[2,m] y) { y = MatMul(x, w) }", {"w": (4, 8)})
    assert groups_from_model(graph, {}).groups[0].output_elements == 16


def test_samples_the_graph_does_not_accept() -> None:
    graph = from_text("g (float[N,M] x) => (float[N,m] y) { y = MatMul(x, w) }", {"w": (4, 8)})
    with pytest.raises(ModelError, match=r"does not accept inputs of shape x \(1, 5\).*MatMul"):
        groups_from_model(graph, {"x": (1, 5)})


def _rewrite_goldens(data: Path) -> None:
    GOLDEN.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        graphs = {name: network(name, Path(folder)) for name in ALL}
        graphs |= {name: prepared(data / path, Path(folder)) for name, path in REAL.items()}
        for name, graph in graphs.items():
            (GOLDEN / f"{name}.txt").write_text(describe_groups(grouping_of(graph)))


if __name__ == "__main__":
    _rewrite_goldens(Path(sys.argv[1]))
