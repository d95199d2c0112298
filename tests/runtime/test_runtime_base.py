"""Choosing what a graph gives out."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from tests.networks import mlp, sample_input
from tests.prepared import RUNTIME
from trt_mpq.runtime.base import with_outputs


def test_any_tensor_can_be_an_output_and_the_graph_stays_as_it_was() -> None:
    graph = ir.from_proto(mlp())
    before = ir.to_proto(graph).SerializeToString(deterministic=True)
    session = RUNTIME.load(with_outputs(graph, ["fc1.relu.out", "input", "fc1.out"]))
    assert session.output_names == ("fc1.relu.out", "input", "fc1.out")
    feeds = sample_input(mlp(), 3)
    outputs = session.run(feeds)
    np.testing.assert_array_equal(outputs["input"], feeds["input"])
    np.testing.assert_array_equal(outputs["fc1.relu.out"], np.maximum(outputs["fc1.out"], 0))
    assert ir.to_proto(graph).SerializeToString(deterministic=True) == before


def test_a_constant_can_be_an_output_too() -> None:
    graph = ir.from_proto(mlp())
    name, value = next(iter(graph.graph.initializers.items()))
    assert value.const_value is not None
    outputs = RUNTIME.load(with_outputs(graph, [name, "fc1.out"])).run(sample_input(mlp(), 3))
    np.testing.assert_array_equal(outputs[name], value.const_value.numpy())


def test_an_unknown_tensor_is_named() -> None:
    with pytest.raises(KeyError, match="nowhere"):
        with_outputs(ir.from_proto(mlp()), ["nowhere"])
