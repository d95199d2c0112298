"""The graph edits that emission and refinement are made of."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from tests.networks import mlp
from trt_mpq.graph.edit import add_constant, constant_array, insert_node, node_by_name, take_over


@pytest.fixture
def graph() -> ir.Graph:
    return ir.from_proto(mlp()).graph


def names(graph: ir.Graph) -> list[str | None]:
    return [node.name for node in graph]


def test_a_constant_is_made_once(graph: ir.Graph) -> None:
    first = add_constant(graph, "three", np.float32(3))
    assert add_constant(graph, "three", np.full((), 3, np.float32)) is first
    assert first.dtype is ir.DataType.FLOAT
    assert first.shape is not None
    assert first.shape.numpy() == ()


@pytest.mark.parametrize(
    "other", [np.float32(4), np.float16(3), np.full(1, 3, np.float32), np.full((), -0.0, np.float32)]
)
def test_a_name_that_holds_something_else_is_not_reused(graph: ir.Graph, other: np.ndarray) -> None:
    first = add_constant(graph, "three", np.float32(0 if other == 0 else 3))
    second = add_constant(graph, "three", other)
    assert second is not first
    assert (first.name, second.name) == ("three", "three_1")
    assert add_constant(graph, "three", other) is second


@pytest.mark.parametrize("dtype", [ml_dtypes.int4, ml_dtypes.float8_e4m3fn, np.float16, np.int64])
def test_constants_keep_their_type(graph: ir.Graph, dtype: type) -> None:
    content = np.array([-3, 0, 2]).astype(dtype)
    value = add_constant(graph, "typed", content)
    assert value.const_value is not None
    assert value.const_value.numpy().dtype == dtype
    np.testing.assert_array_equal(constant_array(value), np.float32([-3, 0, 2]))


def test_only_constants_have_content(graph: ir.Graph) -> None:
    with pytest.raises(ValueError, match="tensor input is not a constant"):
        constant_array(graph.inputs[0])


def test_a_node_is_inserted_behind_another_or_in_front_of_all(graph: ir.Graph) -> None:
    before = names(graph)
    first = insert_node(graph, "Neg", [graph.inputs[0]], "negated", after=None)
    behind = insert_node(
        graph, "Cast", [graph[1].outputs[0]], "cast", after=graph[1], dtype=ir.DataType.FLOAT16,
        attributes={"to": ir.DataType.FLOAT16},
    )  # fmt: skip
    assert names(graph) == ["negated", before[0], "cast", *before[1:]]
    assert first.dtype is ir.DataType.FLOAT
    assert behind.dtype is ir.DataType.FLOAT16
    assert first.shape == graph.inputs[0].shape


def test_a_tensor_takes_over_reads_name_and_output(graph: ir.Graph) -> None:
    old = graph.outputs[0]
    new = insert_node(graph, "Neg", [old], "negated", after=old.producer())
    take_over(graph, old, new, keeps=lambda node, _: node is new.producer(), suffix="_before")
    assert graph.outputs[0] is new
    assert (old.name, new.name) == ("output_before", "output")
    assert [user.name for user, _ in old.uses()] == ["negated"]


def test_reads_that_are_kept_stay(graph: ir.Graph) -> None:
    hidden = node_by_name(graph, "fc2").inputs[0]
    assert hidden is not None
    other = insert_node(graph, "Abs", [hidden], "other", after=hidden.producer())
    new = insert_node(graph, "Neg", [hidden], "negated", after=hidden.producer())
    take_over(graph, hidden, new, keeps=lambda node, _: node.op_type in ("Abs", "Neg"), suffix="_old")
    assert node_by_name(graph, "fc2").inputs[0] is new
    assert {user.name for user, _ in hidden.uses()} == {"other", "negated"}
    assert other.producer() is node_by_name(graph, "other")


def test_a_missing_node_is_named(graph: ir.Graph) -> None:
    with pytest.raises(KeyError, match="fc9"):
        node_by_name(graph, "fc9")
