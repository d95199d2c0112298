"""Cross-layer equalization: the same function, evener ranges, and nothing touched that must not be."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.emit import examples as emission
from tests.networks import Builder, depthwise_cnn, residual_cnn, shared_maxpool
from tests.prepared import RUNTIME, Prepared, normal, prepare
from trt_mpq.graph.edit import constant_array
from trt_mpq.refine.equalize import equalize
from trt_mpq.types import Precision


def chain(activation: str = "Relu", seed: int = 0, spread: float = 0.0, bias: bool = True) -> onnx.ModelProto:
    """Pointwise, depthwise and full convolutions in a row; `spread` scales channels apart, by decades."""
    b = Builder(seed)
    x = "input"
    layers = [("a", (3, 16), 3, 1), ("b", (16, 16), 3, 16), ("c", (16, 24), 1, 1), ("d", (24, 8), 3, 1)]
    for i, (name, channels, kernel, group) in enumerate(layers):
        x = b.conv(name, x, channels, kernel=kernel, group=group, bias=bias)
        if i < len(layers) - 1:
            x = b.relu6(f"{name}.act", x) if activation == "Clip" else b.node(activation, f"{name}.act", [x])
    proto = b.model((3, 10, 10), (8, 10, 10))
    scale_apart(proto, spread, seed)
    return proto


def scale_apart(proto: onnx.ModelProto, decades: float, seed: int) -> None:
    """Multiply output channels of `a` and divide the filters of `b` that read them: the function stays."""
    factor = (10 ** np.random.default_rng(seed).uniform(-decades / 2, decades / 2, 16)).astype(np.float32)
    for tensor in proto.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        columns = factor.reshape(-1, *[1] * (values.ndim - 1)) if len(values) == 16 else None
        if tensor.name in ("a.weight", "a.bias"):
            tensor.CopyFrom(onnx.numpy_helper.from_array(values * columns, tensor.name))
        if tensor.name == "b.weight":
            tensor.CopyFrom(onnx.numpy_helper.from_array(values / columns, tensor.name))


@cache
def badly_scaled() -> Prepared:
    return prepare(chain(spread=3.0))


def outputs(graph: ir.Model, values: np.ndarray) -> np.ndarray:
    return RUNTIME.load(graph).run({"input": values})["output"]


def weight(graph: ir.Model, name: str) -> np.ndarray:
    return constant_array(graph.graph.initializers[f"{name}.weight"])


def assert_same_function(prepared: Prepared, graph: ir.Model) -> None:
    shape = [size for size in prepared.model.inputs[0].shape[1:] if isinstance(size, int)]
    values = normal(6, *shape)
    expected, found = outputs(prepared.graph, values), outputs(graph, values)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@settings(deadline=None, max_examples=15)
@given(
    st.integers(0, 1000),
    st.sampled_from(["Relu", "LeakyRelu"]),
    st.floats(0, 4),
    st.booleans(),
)
def test_the_function_stays_and_the_ranges_meet(seed, activation, spread, bias):
    prepared = prepare(chain(activation, seed, spread, bias))
    graph, pairs = equalize(prepared.graph, prepared.grouping)
    assert pairs == (("a", "b"), ("b", "c"), ("c", "d"))
    assert_same_function(prepared, graph)
    out_axes, in_axes = (1, 2, 3), {"b": (1, 2, 3), "c": (0, 2, 3), "d": (0, 2, 3)}
    for first, second in pairs:
        out_range = np.abs(weight(graph, first)).max(axis=out_axes)
        in_range = np.abs(weight(graph, second)).max(axis=in_axes[second])
        np.testing.assert_allclose(out_range, in_range, rtol=5e-3)


@pytest.mark.parametrize("build", [residual_cnn, shared_maxpool, depthwise_cnn])
def test_other_networks_keep_their_function(build):
    prepared = prepare(build())
    graph, _ = equalize(prepared.graph, prepared.grouping)
    assert_same_function(prepared, graph)


def test_a_residual_block_is_equalized_inside_only():
    _, pairs = equalize(*parts(prepare(residual_cnn())))
    assert pairs == (("block1.conv1", "block1.conv2"), ("block2.conv1", "block2.conv2"))


def parts(prepared: Prepared):
    return prepared.graph, prepared.grouping


def test_relu6_is_not_homogeneous_and_is_left_alone():
    prepared = prepare(chain("Clip", spread=2.0))
    graph, pairs = equalize(*parts(prepared))
    assert pairs == ()
    assert_untouched(prepared, graph)
    assert equalize(*parts(prepare(depthwise_cnn())))[1] == ()


@pytest.mark.parametrize("activation", ["Sigmoid", "Tanh", "HardSwish", "Elu", "Softplus"])
def test_other_activations_are_left_alone(activation):
    assert equalize(*parts(prepare(chain(activation))))[1] == ()


def assert_untouched(prepared: Prepared, graph: ir.Model) -> None:
    for name, value in prepared.graph.graph.initializers.items():
        assert np.array_equal(constant_array(graph.graph.initializers[name]), constant_array(value)), name


def test_a_tensor_that_others_read_is_left_alone():
    b = Builder(0)
    x = b.relu("a.relu", b.conv("a", "input", (3, 16)))
    left, right = b.conv("left", x, (16, 16)), b.conv("right", x, (16, 16))
    b.node("Add", "join", [left, right])
    prepared = prepare(b.model((3, 8, 8), (16, 8, 8)))
    graph, pairs = equalize(*parts(prepared))
    assert pairs == ()
    assert_untouched(prepared, graph)


def test_a_graph_output_is_left_alone():
    proto = chain()
    shape = ["batch", 16, 10, 10]
    proto.graph.output.append(onnx.helper.make_tensor_value_info("a.act.out", onnx.TensorProto.FLOAT, shape))
    prepared = prepare(proto)
    graph, pairs = equalize(*parts(prepared))
    assert ("a", "b") not in pairs
    assert ("b", "c") in pairs
    assert np.array_equal(weight(graph, "a"), weight(prepared.graph, "a"))


def test_a_weight_that_two_layers_share_is_left_alone():
    b = Builder(0)
    shared = b.normal("shared.weight", (16, 16, 1, 1), 0.3)
    x = b.relu("a.relu", b.conv("a", "input", (3, 16)))
    for name in ("b", "c"):
        x = b.relu(f"{name}.relu", b.node("Conv", name, [x, shared]))
    b.conv("d", x, (16, 8))
    prepared = prepare(b.model((3, 8, 8), (8, 8, 8)))
    graph, pairs = equalize(*parts(prepared))
    assert pairs == ()
    assert_untouched(prepared, graph)


def test_a_grouped_second_convolution_is_left_alone():
    b = Builder(0)
    x = b.relu("a.relu", b.conv("a", "input", (3, 16)))
    b.conv("b", x, (16, 16), group=4)
    assert equalize(*parts(prepare(b.model((3, 8, 8), (16, 8, 8)))))[1] == ()


def test_dead_channels_stay_and_nothing_becomes_infinite():
    proto = chain(spread=1.0)
    for tensor in proto.graph.initializer:
        if tensor.name in ("a.weight", "c.weight"):
            values = onnx.numpy_helper.to_array(tensor).copy()
            values[2] = 0
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    prepared = prepare(proto)
    graph, pairs = equalize(*parts(prepared))
    assert len(pairs) == 3
    assert not weight(graph, "a")[2].any()
    assert all(np.isfinite(constant_array(v)).all() for v in graph.graph.initializers.values())
    assert_same_function(prepared, graph)


def test_the_given_graph_is_not_changed():
    prepared = badly_scaled()
    before = {name: constant_array(value).copy() for name, value in prepared.graph.graph.initializers.items()}
    equalize(*parts(prepared))
    for name, value in prepared.graph.graph.initializers.items():
        assert np.array_equal(constant_array(value), before[name])


@pytest.mark.parametrize("precision", [Precision.INT4, Precision.INT8])
def test_a_badly_scaled_network_loses_less(precision):
    """One scale per activation tensor cannot cover channels that are decades apart."""
    prepared = badly_scaled()
    graph, _ = equalize(*parts(prepared))
    values = normal(32, 3, 10, 10)
    exact = outputs(prepared.graph, values)

    def error(model: ir.Model) -> float:
        network = replace(prepared, graph=model).network(prepared.samples(values))
        found = outputs(network.emitter().reference(network.grouping.uniform(precision)), values)
        return float(np.mean((found - exact) ** 2) / np.mean(exact**2))

    assert error(graph) < 0.5 * error(prepared.graph)


def test_a_transformer_has_nothing_to_equalize() -> None:
    """Groups with several weights or none are passed over."""
    for name in ("vit", "conv_attention"):
        network = emission.prepared(name)
        graph, pairs = equalize(network.graph, network.grouping)
        assert pairs == ()
        assert ir.to_proto(graph) == ir.to_proto(network.graph)
