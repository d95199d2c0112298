"""The torch interpreter and its derivatives against ONNX Runtime and torch's own Hessian."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.networks import NETWORKS, sample_input
from tests.sensitivity.examples import smooth_mlp
from trt_mpq.errors import MissingDependencyError
from trt_mpq.evaluate.losses import LOSSES, Loss
from trt_mpq.runtime.onnxruntime import OnnxRuntime
from trt_mpq.runtime.torch_autograd import TORCH_LOSSES, TorchGraph, TorchLoss
from trt_mpq.runtime.torch_operators import UnsupportedByTorch

torch = pytest.importorskip("torch")
torch.set_num_threads(1)


def assert_same_outputs(model: ir.Model, feeds: dict[str, np.ndarray], tolerance: float) -> None:
    expected = OnnxRuntime().load(model).run(feeds)
    with torch.no_grad():
        actual = TorchGraph(model).run({name: torch.tensor(value) for name, value in feeds.items()})
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name].numpy(), value, rtol=0, atol=tolerance * np.abs(value).max())


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_equal_onnx_runtime(name: str) -> None:
    proto = NETWORKS[name]()
    assert_same_outputs(ir.from_proto(proto), sample_input(proto, 3), tolerance=1e-5)


@pytest.mark.data
@pytest.mark.parametrize(
    ("path", "shape"),
    [("cifar10/resnet20.onnx", (4, 3, 32, 32)), ("imagenet/mobilenet_v1_075_224.onnx", (1, 3, 224, 224))],
)
def test_real_convolutional_networks_equal_onnx_runtime(data_dir: Path, path: str, shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    assert_same_outputs(ir.load(data_dir / path), {"input": images}, tolerance=1e-4)


@pytest.mark.data
def test_a_real_transformer_equals_onnx_runtime(data_dir: Path) -> None:
    with np.load(data_dir / "minilm" / "calib.npz") as archive:
        feeds = {name: archive[name][:4].astype(np.int64) for name in archive.files}
    assert_same_outputs(ir.load(data_dir / "minilm" / "minilm_l6_v2.onnx"), feeds, tolerance=1e-4)


@pytest.mark.parametrize("loss", [LOSSES["cross-entropy"], LOSSES["kl"], LOSSES["mse"]], ids=lambda loss: loss.name)
def test_torch_losses_equal_the_numpy_ones(loss: Loss) -> None:
    random = np.random.default_rng(1)
    ours, theirs = ({"y": random.standard_normal((6, 4)), "z": random.standard_normal((6, 2, 3))} for _ in range(2))
    theirs["z"][2] = 0
    labels = np.array([0, 3, 1, 2, 2, 0])
    tensors = [{name: torch.tensor(value) for name, value in outputs.items()} for outputs in (ours, theirs)]
    actual = TORCH_LOSSES[loss.name](torch, tensors[0], torch.tensor(labels), tensors[1])
    np.testing.assert_allclose(actual.numpy(), loss.per_sample(ours, labels, theirs), rtol=1e-12)


def torch_mlp(weights: torch.Tensor, sizes: tuple[int, ...], x: torch.Tensor) -> torch.Tensor:
    """`smooth_mlp` written out in torch, its weights in one flat vector."""
    parts = weights.split([a * b for a, b in pairwise(sizes)])
    for i, (a, b) in enumerate(pairwise(sizes)):
        x = x @ parts[i].reshape(a, b)
        x = torch.tanh(x) if i < len(sizes) - 2 else x
    return x


Objective = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
OBJECTIVES: dict[str, Objective] = {
    "cross-entropy": lambda y, _: torch.nn.functional.cross_entropy(y, torch.tensor([0, 2, 1, 1, 0]), reduction="sum"),
    "kl": lambda y, y0: torch.nn.functional.kl_div(y.log_softmax(1), y0.softmax(1), reduction="sum"),
    "mse": lambda y, y0: (((y - y0) ** 2).mean(1) / (y0**2).mean(1)).sum(),
}


@pytest.mark.parametrize("loss", OBJECTIVES)
def test_quadratic_forms_come_from_the_blocks_of_the_hessian(loss: str) -> None:
    sizes = (4, 5, 3)
    proto, x = smooth_mlp(sizes), np.random.default_rng(0).standard_normal((7, 4)).astype(np.float32)
    model = ir.from_proto(proto)
    weights = {name: value.const_value.numpy() for name, value in model.graph.initializers.items()}
    flat = torch.tensor(np.concatenate([w.ravel() for w in weights.values()]), dtype=torch.float64)
    rows = torch.tensor(x[:5], dtype=torch.float64)
    start = torch_mlp(flat, sizes, rows)
    hessian = torch.autograd.functional.hessian(lambda w: OBJECTIVES[loss](torch_mlp(w, sizes, rows), start), flat)

    directions = [
        {n: np.random.default_rng(s).choice([-1, 1], w.shape).astype(np.float32) for n, w in weights.items()}
        for s in (1, 2)
    ]
    opened = ir.from_proto(with_initializers_as_inputs(proto))
    labels = np.array([0, 2, 1, 1, 0], np.uint8)
    forms = TorchLoss(opened, loss).quadratic_forms({"input": x}, labels, 5, weights, directions)
    for direction, form in zip(directions, forms, strict=True):
        at = 0
        for name, weight in weights.items():
            block = hessian[at : at + weight.size, at : at + weight.size]
            v = torch.tensor(direction[name].ravel(), dtype=torch.float64)
            assert form[name] == pytest.approx(float(v @ block @ v), rel=1e-4, abs=1e-5)
            at += weight.size


def with_initializers_as_inputs(proto: onnx.ModelProto) -> onnx.ModelProto:
    opened = onnx.ModelProto()
    opened.CopyFrom(proto)
    for tensor in proto.graph.initializer:
        opened.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    del opened.graph.initializer[:]
    return opened


def test_a_loss_without_formula_is_refused() -> None:
    with pytest.raises(UnsupportedByTorch, match="'hinge'"):
        TorchLoss(ir.from_proto(smooth_mlp((2, 2))), "hinge")


def test_without_torch_the_install_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'torch>="):
        TorchGraph(ir.from_proto(smooth_mlp((2, 2))))
