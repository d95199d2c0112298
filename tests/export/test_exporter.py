"""Exports, compared with torch by other means than the exporter's own."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from trt_mpq.errors import ModelError, RunFolderError, SettingsError
from trt_mpq.export import DynamicAxis, ExportedModel, ExportOptions, export_to_onnx
from trt_mpq.model import prepare_model
from trt_mpq.types import TensorSpec

torch = pytest.importorskip("torch", reason="exporting needs torch")
networks = importlib.import_module("tests.export.networks")
HERE = "tests.export.networks"


def run(exported: ExportedModel, **feeds: Any) -> list[np.ndarray]:
    """What plain ONNX Runtime computes, with its default optimizations."""
    import onnxruntime

    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    return list(session.run(None, {name: value.numpy() for name, value in feeds.items()}))


def module_of(factory: str) -> Any:
    """The module as the exporter made it: weights drawn with the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return getattr(networks, factory)()[0].eval()


def test_the_way_to_opset_17(conv_net: ExportedModel) -> None:
    assert conv_net.opset == 17
    onnx.checker.check_model(conv_net.path, full_check=True)
    assert conv_net.inputs == (TensorSpec("image", "float32", ("batch", 3, 8, 8)),)
    assert conv_net.outputs == (TensorSpec("output", "float32", ("batch", 5)),)
    assert {1, 2, 3} == {check.shapes["image"][0] for check in conv_net.checks}


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_a_convolutional_network_computes_the_same(conv_net: ExportedModel, batch: int) -> None:
    image = torch.randn(batch, *networks.IMAGE)
    with torch.no_grad():
        expected = module_of("conv_net")(image)
    np.testing.assert_allclose(run(conv_net, image=image)[0], expected.numpy(), atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*nested tensors")
@pytest.mark.parametrize(("batch", "length"), [(1, 1), (1, 12), (3, 5), (8, 8)])
def test_an_encoder_computes_the_same_at_every_size(encoder: ExportedModel, batch: int, length: int) -> None:
    tokens = torch.randint(0, 50, (batch, length))
    mask = (torch.arange(length)[None] < torch.randint(1, length + 1, (batch, 1))).to(torch.int64)
    with torch.no_grad():
        expected = module_of("encoder")(tokens, mask)
    logits, states = run(encoder, tokens=tokens, mask=mask)
    seen = mask.numpy().astype(bool)
    np.testing.assert_allclose(logits, expected["logits"].numpy(), atol=1e-5)
    np.testing.assert_allclose(states[seen], expected["states"].numpy()[seen], atol=1e-5)


def test_inputs_have_the_order_of_forward_and_outputs_their_names(encoder: ExportedModel) -> None:
    assert encoder.inputs == (
        TensorSpec("tokens", "int64", ("batch", "sequence")),
        TensorSpec("mask", "int64", ("batch", "sequence")),
    )
    assert [spec.name for spec in encoder.outputs] == ["logits", "states"]
    assert encoder.outputs[1].shape == ("batch", "sequence", 16)
    assert encoder.parameters > 50 * 16


def test_sizes_that_the_module_refuses_are_not_compared(encoder: ExportedModel) -> None:
    lengths = [check.shapes["tokens"] for check in encoder.checks]
    assert lengths == [(2, 8), (1, 4), (3, 12)]  # the module has 12 positions
    assert max(encoder.max_abs_error.values()) < 1e-4


def test_nodes_are_called_after_layers(encoder: ExportedModel) -> None:
    nodes = {node.name: node for node in onnx.load(encoder.path).graph.node}
    assert nodes["layers.layers.1.linear1.MatMul"].input[1] == "layers.layers.1.linear1.weight"
    assert nodes["layers.layers.1.linear1.Add"].input[1] == "layers.layers.1.linear1.bias"
    assert nodes["classes.Gemm"].input[1] == "classes.weight"


def test_the_file_can_be_prepared(encoder: ExportedModel, tmp_path: Path) -> None:
    prepared = prepare_model(Path(encoder.path), tmp_path / "prepared.onnx")
    assert prepared.inputs == encoder.inputs
    assert prepared.source_sha256 == encoder.sha256


def test_an_axis_that_the_module_fixes_stays_fixed(tmp_path: Path) -> None:
    options = ExportOptions(opset=19, output_names=("scores", "best"))
    exported = export_to_onnx(f"{HERE}:categories", tmp_path / "net.onnx", options)
    assert exported.opset == 19
    assert exported.inputs[1] == TensorSpec("categories", "int64", ("batch", 3))
    assert exported.outputs[1] == TensorSpec("best", "int64", ("batch",))
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_a_fixed_batch_and_large_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trt_mpq.model._EXTERNAL_DATA_BYTES", 0)
    exported = export_to_onnx(f"{HERE}:three_rows", tmp_path / "net.onnx", ExportOptions(fixed_batch=3))
    assert exported.inputs == (TensorSpec("x", "float32", (3, 8)),)
    assert len(exported.checks) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx", "net.onnx.data"]
    np.testing.assert_array_equal(run(exported, x=torch.zeros(3, 8))[0], np.ones((3, 8), np.float32))


BROKEN = {
    "branching": "depends on the values of a tensor",
    "three_rows": "axis 0 of input 'x' cannot be dynamic, because tests.export.networks:three_rows fixes it at 3",
    "nothing_is_a_number": "output 'output' of tests.export.networks:nothing_is_a_number holds NaN",
    "singular_values": "no ONNX form for the operator aten._linalg_svd.default",
    "random_noise": "output 'output' of the exported file differs from torch by ",
    "text": "returns an object of type str",
}


@pytest.mark.parametrize("factory", BROKEN)
def test_a_refused_module_leaves_everything_as_it_was(
    factory: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.onnx").write_text("before")
    with pytest.raises(ModelError) as refusal:
        export_to_onnx(f"{HERE}:{factory}", tmp_path / "net.onnx")
    assert BROKEN[factory] in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
    assert (tmp_path / "net.onnx").read_text() == "before"
    assert capfd.readouterr() == ("", "")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="there is no folder"):
        export_to_onnx(f"{HERE}:scaled", tmp_path / "absent" / "net.onnx")


def test_an_axis_that_is_not_there(tmp_path: Path) -> None:
    options = ExportOptions(dynamic=(DynamicAxis("x", 2, "width"),))
    with pytest.raises(SettingsError, match=r"--dynamic x=2:width names no axis .* x float32\[3, 8\]"):
        export_to_onnx(f"{HERE}:scaled", tmp_path / "net.onnx", options)
