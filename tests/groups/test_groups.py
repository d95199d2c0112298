"""What holds of the groups of every network; `python -m tests.groups.test_groups DATA_FOLDER` rewrites the goldens."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests.groups.graphs import ALL, from_text, grouped, grouping_of, network, prepared
from trt_mpq.errors import ModelError
from trt_mpq.groups import describe_groups, groups_from_model
from trt_mpq.runtime.onnxruntime import OnnxRuntime

GOLDEN = Path(__file__).parents[1] / "golden" / "groups"
REAL = {
    "resnet20": "cifar10/resnet20.onnx",
    "resnet56": "cifar10/resnet56.onnx",
    "mobilenet": "imagenet/mobilenet_v1_075_224.onnx",
    "minilm": "minilm/minilm_l6_v2.onnx",
}


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
