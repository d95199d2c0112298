"""The error of every group in the plan: against the figures of numpy, from both networks' own tensors."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from tests.networks import mlp, sample_input
from trt_mpq.dataset import samples_from_arrays
from trt_mpq.evaluate.layers import layer_errors
from trt_mpq.graph.interface import Interface
from trt_mpq.runtime.base import with_outputs
from trt_mpq.runtime.onnxruntime import OnnxRuntime


def test_ratios_are_those_of_all_values_together() -> None:
    exact, noisy = ir.from_proto(mlp()), ir.from_proto(mlp())
    names = [str(node.outputs[0].name) for node in exact.graph]
    weights = next(value for value in noisy.graph.initializers.values() if value.shape and len(value.shape) == 2)
    assert weights.const_value is not None
    weights.const_value = ir.tensor(weights.const_value.numpy() * np.float32(1.25))
    data, runtime = sample_input(mlp(), 7), OnnxRuntime(1)
    samples = samples_from_arrays(data, Interface.of(exact).inputs)
    tensors = {"first": names[0], "last": names[-1], "nowhere": "no tensor"}
    found = layer_errors(exact, noisy, tensors, samples, runtime, batch=3)
    right, wrong = (runtime.load(with_outputs(graph, [names[0], names[-1]])).run(data) for graph in (exact, noisy))
    assert list(found) == ["first", "last"]
    for group, name in (("first", names[0]), ("last", names[-1])):
        noise = np.sum((right[name] - wrong[name]).astype(np.float64) ** 2)
        expected = None if noise == 0 else 10 * np.log10(np.sum(right[name].astype(np.float64) ** 2) / noise)
        assert found[group] == (expected if expected is None else pytest.approx(expected, abs=1e-4))
    assert layer_errors(exact, exact, tensors, samples, runtime, batch=3) == {"first": None, "last": None}
    assert layer_errors(exact, noisy, {"nowhere": "no tensor"}, samples, runtime, batch=3) == {}
