"""Fisher sensitivity against torch autograd on a network written in torch, and against exact Fisher information."""

from __future__ import annotations

import sys

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.emit.examples import prepared
from tests.networks import sample_input
from tests.sensitivity.examples import QUANTIZED, inputs_for, smooth_mlp
from tests.sensitivity.test_attention_sensitivity import inputs as transformer
from tests.sensitivity.test_quantization_error import rounded
from trt_mpq.errors import MissingDependencyError, SettingsError
from trt_mpq.evaluate.losses import LOSSES
from trt_mpq.runtime.torch_gradients import TorchGradients
from trt_mpq.runtime.torch_operators import UnsupportedByTorch
from trt_mpq.sensitivity.fisher import FisherError
from trt_mpq.types import Precision

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
SIZES = (6, 16, 12, 5)
LABELS = np.random.default_rng(4).integers(0, 5, 20)


@pytest.mark.parametrize("precision", QUANTIZED)
def test_score_is_the_weighted_error_of_every_layer(precision: Precision) -> None:
    proto = smooth_mlp(SIZES)
    x = sample_input(proto, 20)["input"]
    scores = (
        FisherError(block=8)
        .rank(inputs_for(proto, {"input": x}, LABELS, loss=LOSSES["cross-entropy"]))
        .scores[precision]
    )
    weights = [onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer]
    read, layers = torch.tensor(x, requires_grad=True), []
    for weight in weights:
        layers.append((read, read @ torch.tensor(weight)))
        layers[-1][1].retain_grad()
        read = torch.tanh(layers[-1][1])
    torch.nn.functional.cross_entropy(layers[-1][1], torch.tensor(LABELS), reduction="sum").backward()
    for number, ((given, y), weight) in enumerate(zip(layers, weights, strict=True), start=1):
        data = given.detach().numpy()
        codes = rounded(weight, np.abs(weight).max(axis=0, keepdims=True), precision)
        seen = data.astype(np.float16).astype(np.float32)
        quantized = (rounded(seen, np.abs(data).max(), precision) @ codes).astype(np.float16)
        change = y.grad.numpy() * (quantized.astype(np.float64) - y.detach().numpy())
        assert scores[f"fc{number}"] == pytest.approx(np.sum(change**2) / 20, rel=1e-2)


def exact_fisher(loss: str, scores: np.ndarray) -> np.ndarray:
    """The Fisher information (or half the Hessian's double) of the loss at its minimum, in the network's outputs."""
    if loss == "kl":
        p = np.exp(scores) / np.exp(scores).sum()
        return np.diag(p) - np.outer(p, p)
    return 2 * np.eye(len(scores)) / np.sum(scores**2)


@pytest.mark.parametrize("loss", ["kl", "mse"])
def test_drawn_targets_give_the_fisher_information_on_average(loss: str) -> None:
    proto = smooth_mlp((4, 3, 3))
    model, x = ir.from_proto(proto), sample_input(proto, 1)["input"]
    weights = [onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer]
    inner = x @ weights[0]
    jacobian = (1 - np.tanh(inner[0])[:, None] ** 2) * weights[1]  # [inner, outputs]
    expected = np.diag(jacobian @ exact_fisher(loss, (np.tanh(inner) @ weights[1])[0]) @ jacobian.T)
    gradients = TorchGradients(model, ("fc1.out",), loss)
    draws = 4000
    generators = [np.random.default_rng((0, i)) for i in range(draws)]
    values, slopes = gradients.run({"input": np.repeat(x, draws, axis=0)}, None, generators, ("fc1.out",))
    np.testing.assert_allclose(values["fc1.out"][0], inner[0], rtol=1e-5)
    np.testing.assert_allclose(np.mean(slopes["fc1.out"] ** 2, axis=0), expected, rtol=0.12)


def test_rows_that_only_fill_have_no_slope() -> None:
    model = ir.from_proto(smooth_mlp((4, 3, 3)))
    x = np.random.default_rng(1).standard_normal((5, 4)).astype(np.float32)
    generators = [np.random.default_rng(i) for i in range(3)]
    _, slopes = TorchGradients(model, ("fc1.out",), "mse").run({"input": x}, None, generators, ("fc1.out",))
    assert np.all(slopes["fc1.out"][3:] == 0)
    assert np.all(np.abs(slopes["fc1.out"][:3]).sum(axis=1) > 0)


@pytest.mark.parametrize("name", ["bert", "gpt", "vit"])
def test_every_group_of_a_transformer_has_a_score(name: str) -> None:
    ranking = FisherError().rank(transformer(name))
    for precision in ranking.scores:
        assert ranking.scores[precision].keys() == {group.id for group in prepared(name).grouping.groups}
        assert all(0 < score < np.inf for score in ranking.scores[precision].values())


def test_without_torch_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    proto = smooth_mlp(SIZES)
    with pytest.raises(MissingDependencyError, match=r"fisher sensitivity.*pip install 'torch>="):
        FisherError().rank(inputs_for(proto, sample_input(proto, 3)))


def test_a_loss_without_a_likelihood_is_refused() -> None:
    with pytest.raises(UnsupportedByTorch, match="no likelihood for the loss 'hinge'"):
        TorchGradients(ir.from_proto(smooth_mlp(SIZES)), (), "hinge")


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(SettingsError, match="above zero"):
        FisherError(block=0)
