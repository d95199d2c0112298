"""Corrections reach the output of every kind of group exactly once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.emit.examples import crossroads
from tests.fixtures_groups import group_called
from tests.networks import Builder
from tests.prepared import RUNTIME, Prepared, normal, prepare
from trt_mpq.emit import Emitter, Refinements
from trt_mpq.emit.bias import add_to_bias
from trt_mpq.graph.edit import add_constant
from trt_mpq.runtime.base import with_outputs
from trt_mpq.types import Precision, PrecisionPlan


def conv_with_bias(b: Builder) -> tuple[int, ...]:
    b.conv("layer", "input", (3, 8))
    return 3, 6, 6


def conv_without_bias(b: Builder) -> tuple[int, ...]:
    b.conv("layer", "input", (3, 8), bias=False)
    return 3, 6, 6


def conv_with_bias_in_an_add(b: Builder) -> tuple[int, ...]:
    y = b.conv("layer", "input", (3, 8), bias=False)
    b.relu("layer.relu", b.node("Add", "layer.add", [y, b.normal("added", (1, 8, 1, 1), 1.0)]))
    return 3, 6, 6


def conv_transpose(b: Builder) -> tuple[int, ...]:
    b.conv_transpose("layer", "input", (4, 8), group=2)
    return 4, 6, 6


def conv_transpose_without_bias(b: Builder) -> tuple[int, ...]:
    b.conv_transpose("layer", "input", (4, 8), bias=False)
    return 4, 6, 6


def matmul_with_add(b: Builder) -> tuple[int, ...]:
    b.linear("layer", "input", (5, 8))
    return (5,)


def gemm(b: Builder) -> tuple[int, ...]:
    b.gemm("layer", "input", (5, 8))
    return (5,)


def gemm_variant(bias: tuple[int, ...] | None, **attributes: float) -> Callable[[Builder], tuple[int, ...]]:
    def build(b: Builder) -> tuple[int, ...]:
        inputs = ["input", b.normal("layer.weight", (5, 8), 0.5)]
        if bias is not None:
            inputs.append(b.normal("layer.bias", bias, 1.0))
        b.node("Gemm", "layer", inputs, **attributes)
        return (5,)

    return build


LAYERS: dict[str, Callable[[Builder], tuple[int, ...]]] = {
    **{f.__name__: f for f in (conv_with_bias, conv_without_bias, conv_with_bias_in_an_add, conv_transpose)},
    **{f.__name__: f for f in (conv_transpose_without_bias, matmul_with_add, gemm)},
    "gemm_with_factors": gemm_variant((8,), alpha=0.5, beta=2.0),
    "gemm_row": gemm_variant((1, 8)),
    "gemm_scalar": gemm_variant((1,), beta=3.0),
    "gemm_ignoring_its_bias": gemm_variant((8,), beta=0.0),
    "gemm_without_bias": gemm_variant(None, beta=0.5),
}


def network(layer: Callable[[Builder], tuple[int, ...]]) -> Prepared:
    """The layer alone."""
    b = Builder(0)
    shape = layer(b)
    size = 12 if "transpose" in layer.__name__ else 6
    return prepare(b.model(shape, (8, size, size) if len(shape) == 3 else (8,)))


@pytest.mark.parametrize("name", LAYERS)
def test_a_correction_adds_itself_to_every_output_channel(name: str) -> None:
    layer = network(LAYERS[name])
    (group,) = layer.grouping.groups
    x = {"input": normal(3, *(size for size in layer.model.inputs[0].shape[1:] if isinstance(size, int)))}
    delta = np.linspace(-2, 2, 8).astype(np.float32)
    changed = layer.graph.clone()
    add_to_bias(changed.graph, group, group.weight, delta)
    onnx.checker.check_model(ir.to_proto(changed), full_check=True)
    before, after = (
        RUNTIME.load(with_outputs(graph, [biased(graph)])).run(x)[biased(graph)] for graph in (layer.graph, changed)
    )
    expected = before + delta.reshape((8, *[1] * (before.ndim - 2)))
    np.testing.assert_allclose(after, expected, rtol=1e-5, atol=1e-5)


def biased(graph: ir.Model) -> str:
    """The tensor behind the bias: written by the Add if there is one, else by the layer."""
    names = {node.op_type: str(node.outputs[0].name) for node in graph.graph if node.op_type != "Relu"}
    return names.get("Add", next(iter(names.values())))


def test_a_matmul_without_bias_refuses_a_correction() -> None:
    network = prepare(crossroads())
    plain = group_called("plain", network.grouping)
    with pytest.raises(ValueError, match="plain is a MatMul without a bias"):
        add_to_bias(network.graph.clone().graph, plain, plain.weight, np.zeros(24, np.float32))


def shared_bias() -> onnx.ModelProto:
    """Two groups that add one constant of shape (1, C, 1, 1)."""
    b = Builder(0)
    first = b.conv("first", "input", (3, 8), bias=False)
    added = b.normal("added", (1, 8, 1, 1), 1.0)
    x = b.relu("first.relu", b.node("Add", "first.add", [first, added]))
    b.node("Add", "second.add", [b.conv("second", x, (8, 8), bias=False), added])
    return b.model((3, 6, 6), (8, 6, 6))


def test_a_shared_bias_is_corrected_for_one_group_only() -> None:
    layers = prepare(shared_bias())
    graph = layers.graph.clone()
    group = group_called("first", layers.grouping)
    add_to_bias(graph.graph, group, group.weight, np.ones(8, np.float32))
    x = {"input": normal(2, 3, 6, 6)}
    names = ["first.add.out"]
    before, after = (RUNTIME.load(with_outputs(g, names)).run(x)["first.add.out"] for g in (layers.graph, graph))
    np.testing.assert_allclose(after, before + 1, rtol=1e-5, atol=1e-5)
    second = next(node for node in graph.graph if node.name == "second.add")
    assert "added" in {value.name for value in second.inputs if value is not None}


def test_corrections_apply_in_the_precision_they_were_measured_for() -> None:
    layers = prepare(shared_bias())
    ranges = layers.calibrated(layers.samples(normal(4, 3, 6, 6)))
    delta = {("first", Precision.INT8): np.full(8, 5, np.float32)}
    plain, corrected = (Emitter(layers.graph, layers.grouping, ranges, Refinements(given)) for given in ({}, delta))
    for precision, shift in ((Precision.INT8, 5), (Precision.FP8, 0), (Precision.FP16, 0)):
        plan = PrecisionPlan.of({"first": precision, "second": Precision.FP32})
        outputs = [
            RUNTIME.load(with_outputs(emitter.reference(plan), ["first.add.out"])).run({"input": normal(4, 3, 6, 6)})
            for emitter in (plain, corrected)
        ]
        np.testing.assert_allclose(outputs[1]["first.add.out"], outputs[0]["first.add.out"] + shift, atol=0.02)


def test_a_correction_does_not_overwrite_a_constant_of_its_name() -> None:
    layer = network(conv_with_bias)
    graph = layer.graph.clone()
    taken = add_constant(graph.graph, "layer_corrected_bias", np.zeros(3, np.float32))
    group = layer.grouping.groups[0]
    add_to_bias(graph.graph, group, group.weight, np.ones(8, np.float32))
    bias = next(iter(graph.graph)).inputs[2]
    assert bias is not taken
    assert bias is not None
    assert bias.name == "layer_corrected_bias_1"
