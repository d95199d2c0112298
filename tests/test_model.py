"""Preparation keeps what the network computes and normalises how it is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper, parser

from tests.networks import NETWORKS, sample_input
from trt_mpq import model as model_module
from trt_mpq.errors import ModelError, RunFolderError
from trt_mpq.model import load_graph, model_digest, prepare_model

REAL = ["cifar10/resnet20.onnx", "cifar10/resnet56.onnx", "imagenet/mobilenet_v1_075_224.onnx"]


def run(path: Path, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """All outputs, without any graph optimization (ONNX Runtime folds BatchNorm too)."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run(None, feeds)


def write(folder: Path, proto: onnx.ModelProto) -> Path:
    path = folder / "source.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def from_text(
    folder: Path, body: str, weights: dict[str, tuple[int, ...]], opset: int = 17, ir_version: int = 8
) -> Path:
    """A model from ONNX text with positive random weights of the shapes given."""
    proto = parser.parse_model(f'<ir_version: {ir_version}, opset_import: ["":{opset}]> {body}')
    random = np.random.default_rng(0)
    for name, shape in weights.items():
        values = random.uniform(0.5, 1.5, shape).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(values, name))
    return write(folder, proto)


def prepared(source: Path) -> Path:
    destination = source.with_name("prepared.onnx")
    prepare_model(source, destination)
    return destination


def assert_same_outputs(source: Path, destination: Path, feeds: dict[str, np.ndarray]) -> None:
    for before, after in zip(run(source, feeds), run(destination, feeds), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5 * np.abs(before).max())


def op_types(path: Path) -> list[str]:
    return [node.op_type for node in load_graph(path).graph]


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_compute_the_same(name: str, tmp_path: Path) -> None:
    proto = NETWORKS[name]()
    source = write(tmp_path, proto)
    destination = prepared(source)
    assert_same_outputs(source, destination, sample_input(proto, 4))
    assert not {"BatchNormalization", "Constant", "Identity", "Dropout"} & set(op_types(destination))


@pytest.mark.parametrize("name", NETWORKS)
def test_names_that_survive_are_kept(name: str, tmp_path: Path) -> None:
    proto = NETWORKS[name]()
    graph = load_graph(prepared(write(tmp_path, proto))).graph
    nodes = {node.name: node.op_type for node in proto.graph.node}
    assert all(nodes[node.name] == node.op_type for node in graph)
    expected = {i.name for i in proto.graph.initializer if ".bn." not in i.name}
    added = set(graph.initializers) - expected
    assert expected <= set(graph.initializers)
    assert all(name.endswith(".weight_bias") for name in added)
    assert [value.name for value in (*graph.inputs, *graph.outputs)] == ["input", "output"]


@pytest.mark.parametrize("name", NETWORKS)
def test_preparing_twice_changes_nothing(name: str, tmp_path: Path) -> None:
    first = prepare_model(write(tmp_path, NETWORKS[name]()), tmp_path / "first.onnx")
    second = prepare_model(tmp_path / "first.onnx", tmp_path / "second.onnx")
    assert second.sha256 == first.sha256 == second.source_sha256


FOLDABLE = {
    "conv without bias": ("Conv(x, w)", {"w": (6, 4, 3, 3)}),
    "conv with bias": ("Conv(x, w, b)", {"w": (6, 4, 3, 3), "b": (6,)}),
    "grouped conv": ("Conv<group=2>(x, w)", {"w": (6, 2, 3, 3)}),
    "conv transpose": ("ConvTranspose(x, w, b)", {"w": (4, 6, 3, 3), "b": (6,)}),
    "grouped conv transpose": ("ConvTranspose<group=2>(x, w)", {"w": (4, 3, 3, 3)}),
}
BATCH_NORM = {"s": (6,), "o": (6,), "m": (6,), "v": (6,)}


@pytest.mark.parametrize("case", FOLDABLE)
def test_batch_norm_folds_into_convolutions(case: str, tmp_path: Path) -> None:
    call, weights = FOLDABLE[case]
    body = (
        f"g (float[N,4,7,7] x) => (float[N,6,h,w_] y) {{ c = {call} y = BatchNormalization<epsilon=0.01>(c,s,o,m,v) }}"
    )
    source = from_text(tmp_path, body, {**weights, **BATCH_NORM})
    destination = prepared(source)
    assert len(op_types(destination)) == 1
    assert_same_outputs(source, destination, {"x": np.random.default_rng(1).standard_normal((3, 4, 7, 7), np.float32)})


@pytest.mark.parametrize("attributes", ["", "<transB=1>", "<alpha=0.5, beta=2.0>"])
def test_batch_norm_folds_into_gemm(attributes: str, tmp_path: Path) -> None:
    shape = (6, 4) if "transB" in attributes else (4, 6)
    body = f"g (float[N,4] x) => (float[N,6] y) {{ c = Gemm{attributes}(x, w, b) y = BatchNormalization(c,s,o,m,v) }}"
    source = from_text(tmp_path, body, {"w": shape, "b": (6,), **BATCH_NORM})
    destination = prepared(source)
    assert op_types(destination) == ["Gemm"]
    assert_same_outputs(source, destination, {"x": np.random.default_rng(1).standard_normal((3, 4), np.float32)})


def test_batch_norm_folds_where_convolutions_share_a_bias(tmp_path: Path) -> None:
    body = """g (float[N,6,5,5] x) => (float[N,6,1,1] y) {
        a = Conv(x, w, b) an = BatchNormalization(a,s,o,m,v)
        c = Conv(an, w2, b) y = BatchNormalization(c,s,o,m,v) }"""
    source = from_text(tmp_path, body, {"w": (6, 6, 3, 3), "w2": (6, 6, 3, 3), "b": (6,), **BATCH_NORM})
    destination = prepared(source)
    assert op_types(destination) == ["Conv", "Conv"]
    assert_same_outputs(source, destination, {"x": np.random.default_rng(1).standard_normal((3, 6, 5, 5), np.float32)})


def test_batch_norm_stays_where_its_input_is_read_elsewhere(tmp_path: Path) -> None:
    body = """g (float[N,4,5,5] x) => (float[N,6,3,3] c, float[N,6,3,3] y) {
        c = Conv(x, w) y = BatchNormalization(c,s,o,m,v) }"""
    source = from_text(tmp_path, body, {"w": (6, 4, 3, 3), **BATCH_NORM})
    destination = prepared(source)
    assert op_types(destination) == ["Conv", "BatchNormalization"]
    assert_same_outputs(source, destination, {"x": np.ones((2, 4, 5, 5), np.float32)})


def test_weight_computed_from_constants_becomes_an_initializer(tmp_path: Path) -> None:
    body = "g (float[N,300] x) => (float[N,200] y) { t = Transpose(w) d = Mul(t, k) y = MatMul(x, d) }"
    source = from_text(tmp_path, body, {"w": (200, 300), "k": (200,)})
    graph = load_graph(prepared(source)).graph
    assert [node.op_type for node in graph] == ["MatMul"]
    assert tuple(next(iter(graph.initializers.values())).shape) == (300, 200)


def test_a_weight_that_every_step_of_a_loop_transposes_is_stored_once(tmp_path: Path) -> None:
    body = """g (float[N,4] x) => (float[N,4] y) {
        s = Transpose<perm=[1, 0]>(w) a = MatMul(x, s) t = Transpose<perm=[1, 0]>(w) b = MatMul(a, t)
        u = Transpose(w) y = MatMul(b, u) }"""
    source = from_text(tmp_path, body, {"w": (4, 4)})
    destination = prepared(source)
    graph = load_graph(destination).graph
    assert op_types(destination) == ["MatMul"] * 3
    assert sorted(graph.initializers) == ["s", "u"]
    assert_same_outputs(source, destination, {"x": np.random.default_rng(1).standard_normal((3, 4), np.float32)})


def test_identity_and_dropout_vanish_and_the_output_keeps_its_name(tmp_path: Path) -> None:
    body = "g (float[N,4] x) => (float[N,4] y) { i = Identity(x) r = Relu(i) d = Dropout(r) y = Identity(d) }"
    source = from_text(tmp_path, body, {})
    destination = prepared(source)
    graph = load_graph(destination).graph
    assert [(node.op_type, node.outputs[0].name) for node in graph] == [("Relu", "y")]
    assert_same_outputs(source, destination, {"x": np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)})


def test_initializers_that_an_old_ir_version_wants_as_inputs_are_taken_as_they_are(tmp_path: Path) -> None:
    """ONNX's checker refuses such a file; ONNX Runtime and TensorRT take it."""
    source = from_text(
        tmp_path, "g (float[N,6] x) => (float[N,4] y) { y = MatMul(x, w) }", {"w": (6, 4)}, opset=8, ir_version=3
    )
    assert_same_outputs(source, prepared(source), {"x": np.ones((2, 6), np.float32)})


def test_old_opset_is_raised_and_default_inputs_become_initializers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    body = """g (float[N,4,5,5] x, float[6,4,3,3] w) => (float[N,6] y) {
        c = Conv(x, w) k = Clip<min=0.0, max=6.0>(c) d = Dropout<ratio=0.5>(k)
        m = ReduceMean<axes=[2,3], keepdims=0>(d) y = Softmax<axis=1>(m) }"""
    source = from_text(tmp_path, body, {"w": (6, 4, 3, 3)}, opset=9, ir_version=3)
    prepared_model = prepare_model(source, tmp_path / "prepared.onnx")
    assert prepared_model.opset == 17
    assert [spec.name for spec in prepared_model.inputs] == ["x"]
    feeds = {"x": np.random.default_rng(1).standard_normal((3, 4, 5, 5), np.float32)}
    np.testing.assert_allclose(
        run(tmp_path / "prepared.onnx", feeds)[0],
        run(source, feeds)[0],
        rtol=1e-5,
    )
    assert not caplog.records


def test_default_domain_spelled_out(tmp_path: Path) -> None:
    text = '<ir_version: 8, opset_import: ["ai.onnx":12]> g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }'
    assert prepare_model(write(tmp_path, parser.parse_model(text)), tmp_path / "prepared.onnx").opset == 17


def test_newer_opset_is_not_lowered(tmp_path: Path) -> None:
    source = from_text(tmp_path, "g (float[N,4] x) => (float[N,4] y) { y = Gelu(x) }", {}, opset=20, ir_version=9)
    assert prepare_model(source, tmp_path / "prepared.onnx").opset == 20


def test_nameless_and_equally_named_nodes_get_unique_stable_names(tmp_path: Path) -> None:
    body = "g (float[N,4] x) => (float[N,4] y) { a = Relu(x) b = Neg(a) y = Abs(b) }"
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["":17]> {body}')
    proto.graph.node[1].name = proto.graph.node[2].name = "same"
    names = [node.name for node in load_graph(prepared(write(tmp_path, proto))).graph]
    assert names == ["Relu.a", "same", "same_1"]


def test_functions_are_inlined(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["":17, "local":1]>
        g (float[N,4] x) => (float[N,4] y) { y = local.twice(x) }
        <domain: "local", opset_import: ["":17]> twice (a) => (b) { b = Add(a, a) }"""
    source = write(tmp_path, parser.parse_model(text))
    assert op_types(prepared(source)) == ["Add"]


def test_shapes_are_inferred_and_stale_ones_dropped(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["":17]>
        g (float[N,4] x) => (float[N,4] y) <float[N,99] a> { a = Relu(x) y = Neg(a) }"""
    graph = load_graph(prepared(write(tmp_path, parser.parse_model(text)))).graph
    assert [str(dim) for dim in graph[0].outputs[0].shape] == ["N", "4"]


STALE = {
    "other rank": (["N", "seq"], ("N", 6, 25)),
    "other size": (["N", 7, 25], ("N", 6, 25)),
    "a fixed batch": ([1, 6, 25], ("N", 6, 25)),
    "no shape": (None, ("N", 6, 25)),
    "names of its own": (["rows", "channels", None], ("rows", "channels", 25)),
    "placeholders": (["?", -1, 0], ("N", 6, 25)),
}
"""What a file says about the shape of its output, and what is right."""


@pytest.mark.parametrize("case", STALE)
def test_what_is_declared_of_an_output_is_a_hint(case: str, tmp_path: Path) -> None:
    declared, right = STALE[case]
    body = "g (float[N,4,5,5] x) => (float[N,6,25] y) { c = Conv(x, w) r = Relu(c) y = Reshape(r, s) }"
    proto = onnx.load(from_text(tmp_path, body, {"w": (6, 4, 1, 1)}))
    proto.graph.initializer.append(numpy_helper.from_array(np.array([0, 6, -1]), "s"))
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, declared))
    model = prepare_model(write(tmp_path, proto), tmp_path / "prepared.onnx")
    assert [(spec.name, spec.dtype, spec.shape) for spec in model.outputs] == [("y", "float32", right)]


@pytest.mark.parametrize("size", [-1, 0, "?", None])
def test_a_size_that_no_input_can_have_is_free(size: int | str | None, tmp_path: Path) -> None:
    proto = onnx.load(from_text(tmp_path, "g (float[N,4] x) => (float[N,6] y) { y = MatMul(x, w) }", {"w": (4, 6)}))
    proto.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [size, 4]))
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [size, 6]))
    source = write(tmp_path, proto)
    model = prepare_model(source, tmp_path / "prepared.onnx")
    assert [spec.shape for spec in (*model.inputs, *model.outputs)] == [("?", 4), ("?", 6)]
    assert run(tmp_path / "prepared.onnx", {"x": np.ones((3, 4), np.float32)})[0].shape == (3, 6)


def test_described_model(tmp_path: Path) -> None:
    source = write(tmp_path, NETWORKS["mlp"]())
    described = prepare_model(source, tmp_path / "prepared.onnx")
    assert described.path == "prepared.onnx"
    assert described.parameters == 32 * 64 + 64 + 64 * 48 + 48 + 48 * 16 + 16
    assert described.size_bytes == (tmp_path / "prepared.onnx").stat().st_size
    assert described.inputs[0].shape == ("batch", 32)
    assert (described.inputs[0].dtype, described.outputs[0].name) == ("float32", "output")
    assert described.sha256 == model_digest(tmp_path / "prepared.onnx")
    assert described.source_sha256 == model_digest(source)


def test_large_weights_go_to_a_data_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_module, "_EXTERNAL_DATA_BYTES", 1000)
    proto = NETWORKS["residual_cnn"]()
    source = write(tmp_path, proto)
    described = prepare_model(source, tmp_path / "prepared.onnx")
    data = tmp_path / "prepared.onnx.data"
    assert described.size_bytes == data.stat().st_size + (tmp_path / "prepared.onnx").stat().st_size
    assert data.stat().st_size > 4 * described.parameters * 0.9
    assert_same_outputs(source, tmp_path / "prepared.onnx", sample_input(proto, 2))
    weights = [value.const_value for value in load_graph(tmp_path / "prepared.onnx").graph.initializers.values()]
    assert any(isinstance(tensor, ir.ExternalTensor) for tensor in weights)
    with data.open("r+b") as file:
        file.write(b"\x01\x02\x03\x04")
    assert model_digest(tmp_path / "prepared.onnx") != described.sha256


def test_external_data_of_a_small_model_moves_into_the_file(tmp_path: Path) -> None:
    proto = NETWORKS["residual_cnn"]()
    onnx.save(proto, tmp_path / "source.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    destination = tmp_path / "run" / "prepared.onnx"
    destination.parent.mkdir()
    prepare_model(tmp_path / "source.onnx", destination)
    assert [path.name for path in destination.parent.iterdir()] == ["prepared.onnx"]
    assert_same_outputs(tmp_path / "source.onnx", destination, sample_input(NETWORKS["residual_cnn"](), 2))


def test_refused_model_leaves_the_destination_alone(tmp_path: Path) -> None:
    destination = tmp_path / "prepared.onnx"
    destination.write_bytes(b"older")
    source = from_text(tmp_path, "g (float[N,4] x) => (float[N,4] y) { y = MatMul(x, w) }", {"w": (5, 4)})
    with pytest.raises(ModelError, match="contradict"):
        prepare_model(source, destination)
    assert destination.read_bytes() == b"older"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["prepared.onnx", "source.onnx"]


def test_destination_that_cannot_be_written(tmp_path: Path) -> None:
    source = write(tmp_path, NETWORKS["mlp"]())
    with pytest.raises(RunFolderError, match=r"cannot write .*absent"):
        prepare_model(source, tmp_path / "absent" / "prepared.onnx")


@pytest.mark.data
@pytest.mark.parametrize("name", REAL)
def test_real_models_compute_the_same(name: str, data_dir: Path, tmp_path: Path) -> None:
    described = prepare_model(data_dir / name, tmp_path / "prepared.onnx")
    feeds = {"input": np.random.default_rng(0).standard_normal((2, *described.inputs[0].shape[1:]), np.float32)}
    assert_same_outputs(data_dir / name, tmp_path / "prepared.onnx", feeds)
    source = onnx.load(data_dir / name)
    assert described.parameters == sum(np.prod(i.dims, dtype=int) for i in source.graph.initializer if i.data_type == 1)


def test_a_split_that_counts_its_parts_before_opset_18_is_taken(tmp_path: Path) -> None:
    """Torch's exporter writes it so; the parts are equal."""
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[n, 6] x) => (float[n, 3] a, float[n, 3] b) '
        "{ a, b = Split <axis = 1> (x) }"
    )
    proto.graph.node[0].attribute.append(onnx.helper.make_attribute("num_outputs", 2))
    onnx.save(proto, tmp_path / "net.onnx")
    prepare_model(tmp_path / "net.onnx", tmp_path / "prepared.onnx")
    x = np.arange(12, dtype=np.float32).reshape(2, 6)
    computed = onnx.reference.ReferenceEvaluator(str(tmp_path / "prepared.onnx")).run(None, {"x": x})
    np.testing.assert_array_equal(computed[0], x[:, :3])
    np.testing.assert_array_equal(computed[1], x[:, 3:])
