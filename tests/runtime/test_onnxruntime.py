"""The reference runtime: what it loads, how it fails, and that it does not touch numerics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import trt_mpq.runtime.onnxruntime as module
from tests.emit.examples import run_plainly
from tests.networks import mlp, residual_cnn, sample_input
from trt_mpq.errors import RuntimeFailure
from trt_mpq.runtime.onnxruntime import OnnxRuntime


def test_a_file_and_a_graph_give_the_same(tmp_path: Path) -> None:
    onnx.save(mlp(), tmp_path / "mlp.onnx")
    feeds = sample_input(mlp(), 4)
    from_file = OnnxRuntime(1).load(tmp_path / "mlp.onnx").run(feeds)["output"]
    from_graph = OnnxRuntime(2).load(ir.from_proto(mlp())).run(feeds)["output"]
    np.testing.assert_array_equal(from_file, from_graph)
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in mlp().graph.initializer}
    hidden = np.maximum(feeds["input"] @ weights["fc1.weight"].T + weights["fc1.bias"], 0)
    hidden = np.maximum(hidden @ weights["fc2.weight"] + weights["fc2.bias"], 0)
    expected = hidden @ weights["fc3.weight"] + weights["fc3.bias"]
    np.testing.assert_allclose(from_graph, expected, rtol=1e-5, atol=1e-5)


def test_a_graph_too_large_for_one_message_travels_through_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, feeds = ir.from_proto(residual_cnn()), sample_input(residual_cnn(), 2)
    expected = OnnxRuntime(1).load(graph).run(feeds)["output"]
    monkeypatch.setattr(module, "_PROTOBUF_LIMIT", 1000)
    session = OnnxRuntime(1).load(graph)
    np.testing.assert_array_equal(session.run(feeds)["output"], expected)
    assert not any(isinstance(value.const_value, ir.ExternalTensor) for value in graph.graph.initializers.values())


def test_a_part_of_a_graph_whose_weights_lie_in_a_file_of_their_own_runs(tmp_path: Path) -> None:
    """What is cut out of a large model is small, and its weights still lie where the model's do."""
    graph, feeds = ir.from_proto(residual_cnn()), sample_input(residual_cnn(), 2)
    expected = OnnxRuntime(1).load(graph).run(feeds)["output"]
    ir.save(graph, tmp_path / "large.onnx", external_data="large.onnx.data", size_threshold_bytes=0)
    loaded = ir.load(tmp_path / "large.onnx")
    assert any(isinstance(value.const_value, ir.ExternalTensor) for value in loaded.graph.initializers.values())
    np.testing.assert_array_equal(OnnxRuntime(1).load(loaded).run(feeds)["output"], expected)


def test_the_name_carries_the_version() -> None:
    import onnxruntime

    assert OnnxRuntime().name == f"onnxruntime {onnxruntime.__version__}"


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"nonsense")
    with pytest.raises(RuntimeFailure, match=r"ONNX Runtime could not load the graph: .*Wire format was corrupt"):
        OnnxRuntime(1).load(tmp_path / "broken.onnx")


def test_feeds_that_do_not_fit_are_refused_in_one_line() -> None:
    session = OnnxRuntime(1).load(ir.from_proto(mlp()))
    with pytest.raises(RuntimeFailure, match=r"ONNX Runtime could not run the graph: .*input") as failure:
        session.run({"input": np.zeros((1, 7), np.float32)})
    assert "\n" not in str(failure.value)


def test_a_batch_that_a_reshape_forbids_names_the_node_and_the_way_out() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[n, 6] x) => (float[1, 3, 2] y)
        <int64[3] shape = {1, 3, 2}> { y = Reshape(x, shape) }"""
    graph = onnx.parser.parse_model(text)
    graph.graph.node[0].name = "fold"
    session = OnnxRuntime(1).load(ir.from_proto(graph))
    session.run({"x": np.zeros((1, 6), np.float32)})
    with pytest.raises(RuntimeFailure) as failure:
        session.run({"x": np.zeros((4, 6), np.float32)})
    said = str(failure.value)
    assert said.startswith("ONNX Runtime could not run the graph: Reshape fold: ")
    assert said.endswith("; it was given 4 rows at once: if it takes one sample at a time, use --batch 1")
    assert "/onnxruntime" not in said
    with pytest.raises(RuntimeFailure) as failure:
        session.run({"x": np.zeros((1, 5), np.float32)})
    assert "--batch" not in str(failure.value)


def test_half_tensors_are_not_rounded_and_cast_pairs_in_float_are() -> None:
    """Why the reference flavour exists; the typed one may be right or wrong here, the pairs must be right."""
    text = """<ir_version: 9, opset_import: ["" : 19]> g (float[n] x) => (float[n] y) <float k = {1.0009765625}> {
        h = Cast<to=10>(x) a = Cast<to=1>(h) b = Mul(a, k) c = Cast<to=10>(b) d = Cast<to=1>(c) e = Mul(d, k)
        f = Cast<to=10>(e) y = Cast<to=1>(f) }"""
    graph = onnx.parser.parse_model(text)
    x = np.linspace(-30000, 70000, 1001, dtype=np.float32)
    with np.errstate(over="ignore"):
        step = (x.astype(np.float16).astype(np.float32) * np.float32(1.0009765625)).astype(np.float16)
        expected = (step.astype(np.float32) * np.float32(1.0009765625)).astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(OnnxRuntime(1).load(ir.from_proto(graph)).run({"x": x})["y"], expected)
    for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"):
        np.testing.assert_array_equal(run_plainly(graph.SerializeToString(), {"x": x}, level)["y"], expected)
