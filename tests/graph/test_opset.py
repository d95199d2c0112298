"""Opset conversion keeps numerics and names, up and down."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper, parser

from tests.networks import NETWORKS, sample_input
from trt_mpq.errors import ModelError
from trt_mpq.graph.opset import convert_opset, opset_of
from trt_mpq.model import load_graph


def run(graph: ir.Model, feeds: dict[str, np.ndarray]) -> np.ndarray:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    content = ir.to_proto(graph).SerializeToString()
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"]).run(None, feeds)[0]


def from_text(body: str, opset: int) -> ir.Model:
    return ir.from_proto(parser.parse_model(f'<ir_version: 8, opset_import: ["":{opset}]> {body}'))


@pytest.mark.parametrize("version", [18, 19, 21])
@pytest.mark.parametrize("name", NETWORKS)
def test_up_and_down_again(name: str, version: int) -> None:
    proto = NETWORKS[name]()
    graph, feeds = ir.from_proto(proto), sample_input(proto, 3)
    raised = convert_opset(graph, version)
    lowered = convert_opset(raised, 17)
    assert (opset_of(raised), opset_of(lowered), opset_of(graph)) == (version, 17, 17)
    np.testing.assert_array_equal(run(raised, feeds), run(graph, feeds))
    np.testing.assert_array_equal(run(lowered, feeds), run(graph, feeds))
    onnx.checker.check_model(ir.to_proto(raised), full_check=True)
    onnx.checker.check_model(ir.to_proto(lowered), full_check=True)
    for converted in (raised, lowered):
        assert [node.name for node in converted.graph] == [node.name for node in graph.graph]
    assert set(lowered.graph.initializers) == set(graph.graph.initializers)


def test_axes_of_reduce_mean_move_to_a_named_initializer() -> None:
    graph = ir.from_proto(NETWORKS["residual_cnn"]())
    raised = convert_opset(graph, 19)
    assert set(raised.graph.initializers) - set(graph.graph.initializers) == {"pool.axes"}
    pool = next(node for node in raised.graph if node.name == "pool")
    assert "axes" not in pool.attributes
    assert pool.inputs[1].const_value.numpy().tolist() == [2, 3]


def test_weights_are_untouched_large_and_small() -> None:
    graph = ir.from_proto(NETWORKS["residual_cnn"]())
    sizes = {value.const_value.nbytes for value in graph.graph.initializers.values()}
    assert min(sizes) < 8192 < max(sizes)
    raised = convert_opset(graph, 19)
    for name, value in graph.graph.initializers.items():
        np.testing.assert_array_equal(raised.graph.initializers[name].const_value.numpy(), value.const_value.numpy())


def test_the_graph_given_is_not_changed() -> None:
    graph = ir.from_proto(NETWORKS["residual_cnn"]())
    before = ir.to_proto(graph).SerializeToString(deterministic=True)
    convert_opset(graph, 21)
    assert ir.to_proto(graph).SerializeToString(deterministic=True) == before


def test_same_version_gives_an_equal_copy() -> None:
    graph = ir.from_proto(NETWORKS["mlp"]())
    copy = convert_opset(graph, 17)
    assert copy is not graph
    assert ir.to_proto(copy) == ir.to_proto(graph)


def test_converting_again_gives_the_same_names() -> None:
    graph = ir.from_proto(NETWORKS["residual_cnn"]())
    twice = convert_opset(convert_opset(graph, 18), 19)
    assert set(twice.graph.initializers) == set(convert_opset(graph, 19).graph.initializers)


def test_optional_inputs_left_out_stay_left_out() -> None:
    graph = from_text('g (float[N,1,2,2] x) => (float[N,1,4,4] y) { y = Resize<mode="nearest">(x, , s) }', 17)
    scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "s")
    value = ir.Value(name="s", const_value=ir.from_proto(scales))
    graph.graph.initializers["s"] = value
    graph.graph[0].replace_input_with(2, value)
    feeds = {"x": np.arange(8, dtype=np.float32).reshape(2, 1, 2, 2)}
    np.testing.assert_array_equal(run(convert_opset(graph, 19), feeds), run(graph, feeds))


@pytest.mark.parametrize(
    ("body", "opset", "version", "operator"),
    [
        ("g (float[N,4] x) => (float[N,4] y) { y = Gelu(x) }", 20, 17, "Gelu"),
        ("g (float[N,4] x) => (float[N,4] y) { y = HardSwish(x) }", 17, 13, "HardSwish"),
    ],
)
def test_operator_without_equivalent_is_named(body: str, opset: int, version: int, operator: str) -> None:
    with pytest.raises(ModelError, match=f"from opset {opset} to {version}: {operator} has no equivalent there"):
        convert_opset(from_text(body, opset), version)


PAD = "g (float[N,2,3] x) => (float[a,b,c] y)"


@pytest.mark.parametrize("opset", [18, 19, 21])
@pytest.mark.parametrize("version", [13, 17])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (f"{PAD} <int64[6] p = {{0,1,0,0,0,2}}> {{ [pad] y = Pad(x, p) }}", [0, 1, 0, 0, 0, 2]),
        (f"{PAD} <int64[4] p = {{1,2,3,4}}, int64[2] a = {{-1,1}}> {{ [pad] y = Pad(x, p, , a) }}", [0, 2, 1, 0, 4, 3]),
        (
            f"{PAD} <int64[2] p = {{-1,1}}, int64[1] a = {{2}}, float c = {{7}}> {{ [pad] y = Pad(x, p, c, a) }}",
            [0, 0, -1, 0, 0, 1],
        ),
        (
            f"{PAD} <int64[2] p = {{1,1}}, int64[1] a = {{2}}> {{ [pad] y = Pad<mode='edge'>(x, p, , a) }}",
            [0, 0, 1, 0, 0, 1],
        ),
    ],
    ids=["no axes", "axes", "a value and a negative pad", "edge"],
)
def test_pad_is_lowered(body: str, expected: list[int], version: int, opset: int) -> None:
    graph = from_text(body.replace("'", '"'), opset)
    feeds = {"x": np.arange(12, dtype=np.float32).reshape(2, 2, 3)}
    lowered = convert_opset(graph, version)
    (pad,) = lowered.graph
    assert (pad.name, pad.domain, dict(lowered.opset_imports)) == ("pad", "", {"": version})
    assert pad.inputs[1].const_value.numpy().tolist() == expected
    assert set(lowered.graph.initializers) == {value.name for value in pad.inputs[1:] if value is not None}
    np.testing.assert_array_equal(run(lowered, feeds), run(graph, feeds))
    assert len(graph.graph[0].inputs) >= 2
    assert graph.graph[0].domain == ""


@pytest.mark.parametrize("version", [13, 17])
@pytest.mark.parametrize(
    ("body", "sizes"),
    [
        ("{ [s] y, z = Split<axis=1,num_outputs=2>(x) }", None),
        ("{ [s] z, y = Split<axis=-1,num_outputs=2>(t) }", [3, 2]),
        ("<int64[2] parts = {1,5}> { [s] y, z = Split<axis=1>(x, parts) }", [1, 5]),
    ],
    ids=["even", "uneven", "given"],
)
def test_split_is_lowered(body: str, sizes: list[int] | None, version: int) -> None:
    graph = from_text(f"g (float[N,6] x, float[N,5] t) => (float[N,a] y, float[N,b] z) {body}", 18)
    feeds = {"x": np.arange(12, dtype=np.float32).reshape(2, 6), "t": np.arange(10, dtype=np.float32).reshape(2, 5)}
    lowered = convert_opset(graph, version)
    (split,) = lowered.graph
    assert "num_outputs" not in split.attributes
    assert (split.inputs[1].const_value.numpy().tolist() if len(split.inputs) > 1 else None) == sizes
    np.testing.assert_array_equal(run(lowered, feeds), run(graph, feeds))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            "g (float[N,4] x, int64[2] p, int64[1] a) => (float[N,m] y) { [pad] y = Pad(x, p, , a) }",
            "Pad pad has pads or axes",
        ),
        ("g (float[N,4] x, int64[4] p) => (float[N,m] y) { [pad] y = Pad<mode='wrap'>(x, p) }", "Pad pad wraps around"),
        ("g (float[N,4] x) => (float[a,4] y, float[b,4] z) { [s] y, z = Split<num_outputs=2>(x) }", "Split s divides"),
    ],
)
def test_what_opset_17_cannot_say_is_named(body: str, words: str) -> None:
    with pytest.raises(ModelError, match=f"from opset 19 to 17: {words}"):
        convert_opset(from_text(body.replace("'", '"'), 19), 17)


def test_pad_and_split_stay_between_opsets_that_have_them_alike() -> None:
    graph = from_text(
        "g (float[N,6] x) => (float[N,3] y, float[N,3] z) { [s] y, z = Split<axis=1,num_outputs=2>(x) }", 21
    )
    assert convert_opset(graph, 18).graph[0].attributes["num_outputs"].as_int() == 2


@pytest.mark.parametrize("version", [0, 999])
def test_version_that_does_not_exist(version: int) -> None:
    with pytest.raises(ModelError, match=f"opset {version}"):
        convert_opset(ir.from_proto(NETWORKS["mlp"]()), version)


@pytest.mark.data
@pytest.mark.parametrize("version", [18, 19, 21])
def test_resnet20(version: int, data_dir: Path) -> None:
    graph = load_graph(data_dir / "cifar10/resnet20.onnx")
    feeds = {"input": np.random.default_rng(0).standard_normal((8, 3, 32, 32), np.float32)}
    raised = convert_opset(graph, version)
    np.testing.assert_array_equal(run(raised, feeds), run(graph, feeds))
    assert [node.name for node in raised.graph] == [node.name for node in graph.graph]
    assert set(graph.graph.initializers) <= set(raised.graph.initializers)
