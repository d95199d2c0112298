"""Quantization error against numpy and ml_dtypes on the whole tensors at once."""

from __future__ import annotations

from dataclasses import replace as changed

import ml_dtypes
import numpy as np
import onnx
import pytest

from tests.networks import mlp, residual_cnn, sample_input
from tests.sensitivity.examples import QUANTIZED, inputs_for, with_network
from trt_mpq.errors import CalibrationError
from trt_mpq.runtime.base import with_outputs
from trt_mpq.runtime.onnxruntime import OnnxRuntime
from trt_mpq.sensitivity.quantization_error import QuantizationError
from trt_mpq.types import Precision, TensorRange


def half(scale: np.ndarray) -> np.ndarray:
    return scale.astype(np.float16).astype(np.float64)


def rounded(x: np.ndarray, amax: np.ndarray, precision: Precision) -> np.ndarray:
    if precision is Precision.FP8:
        scale = half(amax / 448)
        return np.clip(x / scale, -448, 448).astype(np.float32).astype(ml_dtypes.float8_e4m3fn).astype(float) * scale
    top = 127 if precision is Precision.INT8 else 7
    scale = half(amax / top)
    return np.clip(np.round(x / scale), -top - 1, top) * scale


def relative_rmse(x: np.ndarray, amax: np.ndarray, precision: Precision) -> float:
    return float(np.sqrt(np.mean((rounded(x, amax, precision) - x) ** 2)) / np.abs(x).max())


@pytest.mark.parametrize("precision", QUANTIZED)
def test_score_is_the_sum_of_relative_errors(precision: Precision) -> None:
    proto = residual_cnn(batch_norm=False)
    feeds = sample_input(proto, 10)
    inputs = inputs_for(proto, feeds, batch=3)
    scores = QuantizationError().rank(inputs).scores[precision]
    names = [group.inputs[0].tensor for group in inputs.network.grouping.groups]
    values = OnnxRuntime(1).load(with_outputs(inputs.network.graph, names)).run(feeds)
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    for group in inputs.network.grouping.groups:
        x, w = values[group.inputs[0].tensor], weights[group.weight.name]
        others = tuple(i for i in range(w.ndim) if i != group.weight.axis)
        expected = relative_rmse(w, np.abs(w).max(axis=others, keepdims=True), precision)
        expected += relative_rmse(x, np.abs(x).max(), precision)
        assert scores[group.id] == pytest.approx(expected, rel=2e-3)


def test_terms_can_be_left_out() -> None:
    proto = mlp()
    inputs = inputs_for(proto, sample_input(proto, 6))
    both, weights, activations = (
        metric.rank(inputs)
        for metric in (QuantizationError(), QuantizationError(activations=False), QuantizationError(weights=False))
    )
    for precision in QUANTIZED:
        for group, score in both.scores[precision].items():
            parts = weights.scores[precision][group], activations.scores[precision][group]
            assert min(parts) > 0
            assert score == pytest.approx(sum(parts), rel=1e-12)
    assert (both.forward_passes, weights.forward_passes, activations.forward_passes) == (6, 0, 6)


def test_a_clipping_range_costs() -> None:
    proto = mlp()
    inputs = inputs_for(proto, sample_input(proto, 6))
    tensors = {
        n: changed(r, amax={p: 0.3 * a for p, a in r.amax.items()}) for n, r in inputs.network.ranges.tensors.items()
    }
    clipped = with_network(inputs, ranges=changed(inputs.network.ranges, tensors=tensors))
    before, after = (QuantizationError().rank(i).scores[Precision.INT8] for i in (inputs, clipped))
    assert all(after[group] > 3 * before[group] for group in before)


def test_a_dead_tensor_adds_nothing() -> None:
    proto = mlp()
    proto.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.zeros((64, 32), np.float32), "fc1.weight"))
    feeds = sample_input(proto, 4)
    inputs = inputs_for(proto, {"input": np.zeros_like(feeds["input"])})
    assert QuantizationError().rank(inputs).scores[Precision.INT8]["fc1"] == 0.0


@pytest.mark.parametrize("lost", ["tensor", "precision"])
def test_a_missing_range_names_tensor_and_precision(lost: str) -> None:
    proto = mlp()
    inputs = inputs_for(proto, sample_input(proto, 4))
    tensors = dict(inputs.network.ranges.tensors)
    if lost == "tensor":
        del tensors["fc1.relu.out"]
    else:
        tensors["fc1.relu.out"] = TensorRange(0, 1, {Precision.INT8: 1.0})
    with pytest.raises(CalibrationError, match=r"'fc1\.relu\.out' has no (int8|fp8) range"):
        QuantizationError().rank(with_network(inputs, ranges=changed(inputs.network.ranges, tensors=tensors)))
