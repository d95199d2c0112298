"""Hutchinson's estimators against exact traces from torch's full Hessian."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from dataclasses import replace as changed

import numpy as np
import onnx
import pytest

from tests.fixtures_groups import group_called
from tests.networks import Builder, sample_input
from tests.sensitivity.examples import inputs_for, smooth_cnn, smooth_mlp
from trt_mpq.errors import MissingDependencyError, SettingsError
from trt_mpq.evaluate.losses import LOSSES
from trt_mpq.numerics import quantize_weight
from trt_mpq.runtime.torch_operators import UnsupportedByTorch
from trt_mpq.sensitivity import SensitivityInputs
from trt_mpq.sensitivity.hessian import HessianTrace
from trt_mpq.types import Precision

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
LABELS = np.random.default_rng(8).integers(0, 3, 24)


def mlp_in_torch(weights: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x @ weights[0]) @ weights[1]


def cnn_in_torch(weights: list[torch.Tensor], x: torch.Tensor, biases: list[torch.Tensor]) -> torch.Tensor:
    x = torch.nn.functional.softplus(torch.conv2d(x, weights[0], biases[0], stride=2, padding=1))
    x = torch.nn.functional.softplus(torch.conv2d(x, weights[1], biases[1], padding=1))
    return x.mean((2, 3)) @ weights[2].T + biases[2]


@dataclass(frozen=True)
class Exact:
    """Full Hessian of the mean loss in all weights together, and where each group's block lies."""

    inputs: SensitivityInputs
    hessian: np.ndarray
    blocks: dict[str, slice]

    def traces(self) -> dict[str, float]:
        return {name: float(np.trace(self.hessian[at, at])) for name, at in self.blocks.items()}

    def standard_error(self, group: str, trials: int) -> float:
        """Of an estimate with `trials` Rademacher vectors for all samples together."""
        block = self.hessian[self.blocks[group], self.blocks[group]]
        return float(np.sqrt(2 * (np.sum(block**2) - np.sum(np.diag(block) ** 2)) / trials))


@pytest.fixture(scope="module", params=["mlp", "cnn"])
def exact(request: pytest.FixtureRequest) -> Exact:
    proto = smooth_mlp((5, 6, 3)) if request.param == "mlp" else smooth_cnn()
    feeds = sample_input(proto, 24)
    inputs = inputs_for(proto, feeds, LABELS, loss=LOSSES["cross-entropy"])
    constants = {t.name: torch.tensor(onnx.numpy_helper.to_array(t)).double() for t in proto.graph.initializer}
    names = [group.weight.name for group in inputs.network.grouping.groups]
    biases = [constants[name.replace("weight", "bias")] for name in names] if request.param == "cnn" else []
    x, labels = torch.tensor(feeds["input"]).double(), torch.tensor(LABELS)
    sizes = [constants[name].numel() for name in names]

    def loss(flat: torch.Tensor) -> torch.Tensor:
        weights = [p.reshape(constants[n].shape) for n, p in zip(names, flat.split(sizes), strict=True)]
        y = cnn_in_torch(weights, x, biases) if biases else mlp_in_torch(weights, x)
        return torch.nn.functional.cross_entropy(y, labels)

    flat = torch.cat([constants[name].flatten() for name in names])
    ends = np.cumsum([0, *sizes])
    blocks = {g.id: slice(a, b) for g, a, b in zip(inputs.network.grouping.groups, ends[:-1], ends[1:], strict=True)}
    return Exact(inputs, torch.autograd.functional.hessian(loss, flat).numpy(), blocks)


def average_traces(metric: HessianTrace, inputs: SensitivityInputs) -> dict[str, float]:
    return dict(changed(metric, weighted=False).rank(inputs).scores[Precision.INT8])


@pytest.mark.parametrize("estimator", ["autograd", "forward"])
def test_estimates_are_within_their_standard_error(exact: Exact, estimator: str) -> None:
    trials = 60
    estimates = average_traces(HessianTrace(trials, estimator=estimator, step=0.02), exact.inputs)
    for group, trace in exact.traces().items():
        elements = group_called(group, exact.inputs.network.grouping).weight.elements
        error = exact.standard_error(group, trials)
        assert error < 0.2 * trace, "the check would prove nothing"
        # More samples than a block holds means more vectors, which only makes the estimate better.
        assert abs(estimates[group] * elements - trace) < 3 * error


@pytest.mark.parametrize(("step", "tolerance"), [(0.01, 0.02), (0.1, 0.1)])
def test_both_estimators_agree_on_the_same_vectors(exact: Exact, step: float, tolerance: float) -> None:
    autograd = average_traces(HessianTrace(6, estimator="autograd"), exact.inputs)
    forward = average_traces(HessianTrace(6, estimator="forward", step=step), exact.inputs)
    for name, value in autograd.items():
        assert forward[name] == pytest.approx(value, rel=tolerance)


def test_the_weighted_score_is_the_average_trace_times_the_squared_perturbation(exact: Exact) -> None:
    traces = average_traces(HessianTrace(4, estimator="autograd"), exact.inputs)
    ranking = HessianTrace(4, estimator="autograd").rank(exact.inputs)
    for precision, scores in ranking.scores.items():
        for group in exact.inputs.network.grouping.groups:
            weight = exact.inputs.network.graph.graph.initializers[group.weight.name].const_value.numpy()
            change = (quantize_weight(weight, group.weight.axis, precision).values - weight).ravel()
            assert scores[group.id] == pytest.approx(traces[group.id] * float(change @ change), rel=1e-5)


def without_torch_formula() -> SensitivityInputs:
    b = Builder(0)
    b.gemm("head", b.node("Asinh", "wave", ["input"]), (4, 3))
    proto = b.model((4,), (3,))
    return inputs_for(proto, sample_input(proto, 6), loss=LOSSES["mse"])


def test_auto_prefers_autograd(exact: Exact) -> None:
    auto, autograd, forward = (HessianTrace(3, estimator=e).rank(exact.inputs) for e in ("auto", "autograd", "forward"))
    assert auto == autograd
    assert auto != forward


def test_auto_takes_forward_for_operators_torch_does_not_know() -> None:
    inputs = without_torch_formula()
    assert HessianTrace(3).rank(inputs) == HessianTrace(3, estimator="forward").rank(inputs)
    with pytest.raises(UnsupportedByTorch, match="Asinh"):
        HessianTrace(3, estimator="autograd").rank(inputs)


def test_auto_takes_forward_without_torch(exact: Exact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert HessianTrace(2).rank(exact.inputs) == HessianTrace(2, estimator="forward").rank(exact.inputs)
    with pytest.raises(MissingDependencyError, match="torch"):
        HessianTrace(2, estimator="autograd").rank(exact.inputs)


def test_a_weight_of_zeros_has_no_forward_trace() -> None:
    proto = smooth_mlp((3, 4, 2))
    zero = np.zeros((4, 2), np.float32)
    proto.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(zero, "fc2.weight"))
    inputs = inputs_for(proto, sample_input(proto, 4))
    assert average_traces(HessianTrace(2, estimator="forward"), inputs)["fc2"] == 0.0


def test_cost_is_counted_in_forward_passes(exact: Exact) -> None:
    groups = len(exact.inputs.network.grouping.groups)
    assert HessianTrace(3, estimator="forward").rank(exact.inputs).forward_passes == 24 * (1 + 2 * 3 * groups)
    # Forward 1 and backward 2, then a product per trial and group.
    assert HessianTrace(3, estimator="autograd").rank(exact.inputs).forward_passes == 24 * (3 + 1.25 * 3 * groups)


@pytest.mark.parametrize("settings", [{"estimator": "exact"}, {"trials": 0}, {"step": 0.0}])
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        HessianTrace(**settings)
