"""Models that must be refused, each in one sentence, before anything is read or written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from tests.networks import mlp
from trt_mpq.errors import ModelError
from trt_mpq.model import load_graph, prepare_model
from trt_mpq.runtime.onnxruntime import OnnxRuntime


def refuse(source: Path, match: str) -> None:
    with pytest.raises(ModelError, match=match) as caught:
        prepare_model(source, source.with_name("prepared.onnx"))
    assert "\n" not in str(caught.value)
    assert not source.with_name("prepared.onnx").exists()


def written(folder: Path, content: bytes) -> Path:
    path = folder / "source.onnx"
    path.write_bytes(content)
    return path


def from_text(folder: Path, text: str, opset: str = '"":17', weights: dict[str, np.ndarray] | None = None) -> Path:
    proto = parser.parse_model(f"<ir_version: 8, opset_import: [{opset}]> {text}")
    for name, values in (weights or {}).items():
        proto.graph.initializer.append(numpy_helper.from_array(values, name))
    return written(folder, proto.SerializeToString())


def test_missing_file(tmp_path: Path) -> None:
    refuse(tmp_path / "source.onnx", "there is no model file")


def test_folder(tmp_path: Path) -> None:
    (tmp_path / "source.onnx").mkdir()
    refuse(tmp_path / "source.onnx", "is not a file")


def test_empty_file(tmp_path: Path) -> None:
    refuse(written(tmp_path, b""), "is empty")


@pytest.mark.parametrize("kept", [10, 1000, -1000])
def test_truncated_file(kept: int, tmp_path: Path) -> None:
    refuse(written(tmp_path, mlp().SerializeToString()[:kept]), "cannot be read as ONNX")


def test_file_truncated_between_fields(tmp_path: Path) -> None:
    proto = mlp()
    del proto.opset_import[:]
    refuse(written(tmp_path, proto.SerializeToString()), "is not a valid ONNX model")


@pytest.mark.parametrize("content", [b"PK\x03\x04" + bytes(200), b"name,label\ncat,3\n" * 20, b"\x00\x01\x02"])
def test_other_formats(content: bytes, tmp_path: Path) -> None:
    refuse(written(tmp_path, content), "cannot be read as ONNX|not a valid ONNX model")


def test_an_unsorted_graph_is_sorted_and_computes_the_same(tmp_path: Path) -> None:
    """As ONNX Runtime's float16 converter writes them; the body of an If is not in order either."""
    body = """g (float[N,4] x, bool c) => (float[N,4] y) {
        y = Relu(b)
        b = If (c) <
            then_branch = t () => (float[N,4] o) { o = Neg(p) p = Abs(z) },
            else_branch = e () => (float[N,4] o) { o = Neg(z) }
        >
        z = Neg(x)
    }"""
    source = from_text(tmp_path, body)
    model = prepare_model(source, tmp_path / "prepared.onnx")
    assert [spec.name for spec in model.inputs] == ["x", "c"]
    x = np.float32([[1, -2, 3, -4]])
    session = OnnxRuntime(1).load(tmp_path / "prepared.onnx")
    for chosen, expected in ((True, np.maximum(-np.abs(x), 0)), (False, np.maximum(x, 0))):
        np.testing.assert_array_equal(session.run({"x": x, "c": np.array(chosen)})["y"], expected)


def test_nodes_that_read_what_they_make(tmp_path: Path) -> None:
    refuse(
        from_text(tmp_path, "g (float[N,4] x) => (float[N,4] y) { y = Relu(z) z = Add(x, y) }"), "read what they make"
    )


def test_unknown_operator(tmp_path: Path) -> None:
    refuse(from_text(tmp_path, "g (float[N,4] x) => (float[N,4] y) { y = Foo(x) }"), "Foo")


def test_unknown_opset(tmp_path: Path) -> None:
    refuse(from_text(tmp_path, "g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }", '"":999'), "opset 999")


def test_shapes_that_contradict(tmp_path: Path) -> None:
    weights = {"w": np.ones((5, 6), np.float32)}
    source = from_text(tmp_path, "g (float[N,4] x) => (float[N,6] y) { y = MatMul(x, w) }", weights=weights)
    refuse(source, "contradict each other.*MatMul")


QUANTIZED = {
    "QuantizeLinear": "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)",
    "DynamicQuantizeLinear": "q, a, b = DynamicQuantizeLinear(x) y = Cast<to=1>(q)",
    "MatMulInteger": "q = Cast<to=3>(x) i = MatMulInteger(q, k) y = Cast<to=1>(i)",
    "ConvInteger": "q = Cast<to=3>(x) i = ConvInteger(q, k) y = Cast<to=1>(i)",
    "QLinearMatMul": "q = Cast<to=3>(x) i = QLinearMatMul(q, s, z, k, s, z, s, z) y = Cast<to=1>(i)",
}


@pytest.mark.parametrize("operator", QUANTIZED)
def test_quantized_model(operator: str, tmp_path: Path) -> None:
    weights = {"s": np.float32(0.1), "z": np.int8(0), "k": np.ones((4, 4), np.int8)}
    source = from_text(tmp_path, f"g (float[N,4] x) => (float[N,m] y) {{ {QUANTIZED[operator]} }}", weights=weights)
    refuse(source, f"already quantized .*{operator}")


def test_quantized_body(tmp_path: Path) -> None:
    text = f"""g (float[N,4] x, bool c) => (float[N,4] y) {{
        y = If (c) <then_branch = t () => (float[N,4] a) {{ {QUANTIZED["QuantizeLinear"].replace("y =", "a =")} }},
                    else_branch = e () => (float[N,4] b) {{ b = Neg(x) }}> }}"""
    refuse(from_text(tmp_path, text, weights={"s": np.float32(0.1), "z": np.int8(0)}), "already quantized")


def test_foreign_operator(tmp_path: Path) -> None:
    text = "g (float[N,4] x) => (float[N,4] y) { y = acme.Foo(x) }"
    refuse(from_text(tmp_path, text, '"":17, "acme":1'), r"\(Foo\) is of domain acme")


def test_function_that_calls_itself(tmp_path: Path) -> None:
    text = """g (float[N,4] x) => (float[N,4] y) { y = local.f(x) }
        <domain: "local", opset_import: ["":17, "local":1]> f (a) => (b) { b = local.f(a) }"""
    refuse(from_text(tmp_path, text, '"":17, "local":1'), "function f of the model calls itself")


def test_function_of_another_opset(tmp_path: Path) -> None:
    text = """g (float[N,4] x) => (float[N,4] y) { y = local.f(x) }
        <domain: "local", opset_import: ["":18]> f (a) => (b) { b = Relu(a) }"""
    refuse(from_text(tmp_path, text, '"":17, "local":1'), "function of the model cannot be inlined")


def test_training_mode(tmp_path: Path) -> None:
    text = """g (float[N,4,5,5] x) => (float[N,4,5,5] y) {
        y, m, v = BatchNormalization<training_mode=1>(x, p, p, p, p) }"""
    refuse(from_text(tmp_path, text, weights={"p": np.ones(4, np.float32)}), r"training mode.*model\.eval")


def test_dropout_in_training_mode(tmp_path: Path) -> None:
    weights = {"r": np.float32(0.5), "t": np.bool_(True)}
    source = from_text(tmp_path, "g (float[N,4] x) => (float[N,4] y) { y = Dropout(x, r, t) }", weights=weights)
    refuse(source, r"\(Dropout\) is in training mode")


def test_weights_in_double_precision(tmp_path: Path) -> None:
    text = "g (double[N,4] x) => (double[N,4] y) { y = MatMul(x, w) }"
    refuse(from_text(tmp_path, text, weights={"w": np.ones((4, 4))}), "computes in DOUBLE: export the model in FP32")


def test_half_precision_table_outside_weighted_ops_is_fine(tmp_path: Path) -> None:
    text = "g (int64[N] x) => (float[N,4] y) { h = Gather(t, x) f = Cast<to=1>(h) y = MatMul(f, w) }"
    weights = {"t": np.ones((9, 4), np.float16), "w": np.ones((4, 4), np.float32)}
    assert prepare_model(from_text(tmp_path, text, weights=weights), tmp_path / "prepared.onnx").parameters == 52


def test_no_inputs(tmp_path: Path) -> None:
    text = "g () => (float[2] y) { y = Relu(w) }"
    refuse(from_text(tmp_path, text, weights={"w": np.ones(2, np.float32)}), "no inputs")


def test_no_outputs(tmp_path: Path) -> None:
    refuse(from_text(tmp_path, "g (float[N,4] x) => () { y = Relu(x) }"), "no outputs")


def test_text_input(tmp_path: Path) -> None:
    refuse(
        from_text(tmp_path, "g (string[N] x) => (string[N] y) { y = Identity(x) }"), "input x is a .*numeric tensors"
    )


def test_input_without_rank(tmp_path: Path) -> None:
    proto = parser.parse_model('<ir_version: 8, opset_import: ["":17]> g (float[N] x) => (float[N] y) { y = Relu(x) }')
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    refuse(written(tmp_path, proto.SerializeToString()), "no declared rank")


def with_external_weight(folder: Path, location: str, length: int = 64) -> Path:
    proto = parser.parse_model(
        '<ir_version: 8, opset_import: ["":17]> g (float[N,4] x) => (float[N,4] y) { y = MatMul(x, w) }'
    )
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", str(length))):
        weight.external_data.add(key=key, value=value)
    proto.graph.initializer.append(weight)
    return written(folder, proto.SerializeToString())


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """An empty folder beside a file with 64 readable bytes that no model may reach."""
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    folder = tmp_path / "model"
    folder.mkdir()
    return folder


def test_external_data_inside_the_folder(model_folder: Path) -> None:
    (model_folder / "sub").mkdir()
    (model_folder / "sub" / "w.bin").write_bytes(bytes(64))
    prepare_model(with_external_weight(model_folder, "sub/w.bin"), model_folder / "prepared.onnx")


@pytest.mark.parametrize("location", ["../secret.bin", "sub/../../secret.bin", "{root}/secret.bin"])
def test_external_data_outside_the_folder(location: str, model_folder: Path) -> None:
    source = with_external_weight(model_folder, location.format(root=model_folder.parent))
    refuse(source, "w has its data in .*outside the model's folder")
    with pytest.raises(ModelError, match="outside"):
        load_graph(source)


def test_external_data_behind_a_symbolic_link(model_folder: Path) -> None:
    (model_folder / "w.bin").symlink_to("../secret.bin")
    refuse(with_external_weight(model_folder, "w.bin"), "outside the model's folder")


def test_external_data_in_a_linked_folder(model_folder: Path) -> None:
    (model_folder / "sub").symlink_to("..", target_is_directory=True)
    refuse(with_external_weight(model_folder, "sub/secret.bin"), "outside the model's folder")


def test_external_data_in_a_constant_node(model_folder: Path) -> None:
    value = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 4], data_location=TensorProto.EXTERNAL)
    value.external_data.add(key="location", value="../secret.bin")
    proto = parser.parse_model(
        '<ir_version: 8, opset_import: ["":17]> g (float[N,4] x) => (float[N,4] y) { y = MatMul(x, w) }'
    )
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=value))
    refuse(written(model_folder, proto.SerializeToString()), "outside the model's folder")


def test_external_data_missing(model_folder: Path) -> None:
    refuse(with_external_weight(model_folder, "gone.bin"), "w has its data in gone.bin, which is missing")


def test_external_data_truncated(model_folder: Path) -> None:
    (model_folder / "w.bin").write_bytes(bytes(20))
    refuse(with_external_weight(model_folder, "w.bin"), "needs 64 bytes of w.bin, which is shorter")


def test_relative_path(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model_folder)
    (model_folder / "w.bin").write_bytes(bytes(64))
    with_external_weight(model_folder, "w.bin")
    prepare_model(Path("source.onnx"), Path("prepared.onnx"))
    assert len(onnx.load("prepared.onnx").graph.initializer) == 1


def test_an_output_needs_no_type(tmp_path: Path) -> None:
    model = mlp()
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.UNDEFINED
    made = prepare_model(written(tmp_path, model.SerializeToString()), tmp_path / "prepared.onnx")
    assert [output.dtype for output in made.outputs] == ["float32"]
