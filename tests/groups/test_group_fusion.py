"""What a group takes in behind its convolution or product, and what it does not."""

from __future__ import annotations

import pytest

from tests.groups.graphs import CONV, grouped, nodes_of


def test_residual_add_joins_the_later_convolution() -> None:
    body = """g (float[N,4,5,5] x) => (float[N,4,5,5] y) {
        a = Conv(x, w) b = Conv(x, v) s = Add(b, a) y = Relu(s) }"""
    grouping = grouped(body, {**CONV, "v": (4, 4, 1, 1)})
    assert nodes_of(grouping) == [("a",), ("b", "s", "y")]
    residual = grouping.groups[1].inputs[1]
    assert (residual.tensor, residual.node, residual.index, residual.role) == ("a", "s", 1, "residual")
    assert grouping.groups[1].flops == 2 * 4 * 100
    assert grouping.groups[1].input_elements == 200


def test_residual_add_joins_the_earlier_one_if_the_later_is_read_twice() -> None:
    body = """g (float[N,4,5,5] x) => (float[N,4,5,5] y, float[N,4,5,5] z) {
        a = Conv(x, w) b = Conv(x, v) y = Add(a, b) z = Neg(b) }"""
    grouping = grouped(body, {**CONV, "v": (4, 4, 1, 1)})
    assert nodes_of(grouping) == [("a", "y"), ("b",)]
    assert grouping.groups[0].inputs[1].tensor == "b"


def test_residual_from_the_network_input() -> None:
    grouping = grouped("g (float[N,4,5,5] x) => (float[N,4,5,5] y) { a = Conv(x, w) y = Add(x, a) }", CONV)
    assert nodes_of(grouping) == [("a", "y")]
    assert [site.tensor for site in grouping.groups[0].inputs] == ["x", "x"]


NOT_FUSED = {
    "activation ends the chain": "r = Relu(a) y = Add(r, x)",
    "broadcast": "m = GlobalAveragePool(x) y = Add(a, m)",
    "added to itself": "y = Add(a, a)",
    "constant of full shape": "y = Add(a, full)",
    "scalar constant": "y = Add(a, one)",
    "multiplication": "y = Mul(a, x)",
    "softmax": "y = Softmax(a)",
    "clip by a computed bound": "m = ReduceMax<keepdims=0>(x) y = Clip(a, m)",
    "two readers": "r = Relu(a) n = Neg(a) y = Mul(r, n)",
    "gate read twice": "s = Sigmoid(a) m = Mul(a, s) y = Sub(m, s)",
}


@pytest.mark.parametrize("case", NOT_FUSED)
def test_not_fused(case: str) -> None:
    body = f"g (float[N,4,5,5] x) => (float[N,4,5,5] y) {{ a = Conv(x, w) {NOT_FUSED[case]} }}"
    nodes = nodes_of(grouped(body, {**CONV, "full": (1, 4, 5, 5), "one": (1,)}))
    assert nodes == ([("a", "r")] if "ends" in case else [("a",)])


def test_network_output_in_between_is_not_fused() -> None:
    body = "g (float[N,4,5,5] x) => (float[N,4,5,5] a, float[N,4,5,5] y) { a = Conv(x, w) y = Relu(a) }"
    assert nodes_of(grouped(body, CONV)) == [("a",)]


ACTIVATIONS = ["Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSwish", "HardSigmoid", "Elu", "Softplus"]


@pytest.mark.parametrize("operator", ACTIVATIONS)
def test_one_activation_is_fused(operator: str) -> None:
    body = f"g (float[N,4,5,5] x) => (float[N,4,5,5] y) {{ a = Conv(x, w) r = {operator}(a) y = Relu(r) }}"
    grouping = grouped(body, CONV)
    assert nodes_of(grouping) == [("a", "r")]
    assert [op.node for op in grouping.loose] == ["y"]


def test_gelu_is_fused() -> None:
    body = "g (float[N,4,5,5] x) => (float[N,4,5,5] y) { a = Conv(x, w) y = Gelu(a) }"
    assert nodes_of(grouped(body, CONV, opset=20)) == [("a", "y")]


@pytest.mark.parametrize("gate", ["Sigmoid", "HardSigmoid"])
@pytest.mark.parametrize("order", ["a, s", "s, a"])
def test_swish_is_fused(gate: str, order: str) -> None:
    body = f"g (float[N,4,5,5] x) => (float[N,4,5,5] y) {{ a = Conv(x, w) s = {gate}(a) y = Mul({order}) }}"
    assert nodes_of(grouped(body, CONV)) == [("a", "s", "y")]


@pytest.mark.parametrize("shape", [(4, 1, 1), (1, 4, 1, 1)])
def test_constant_per_channel_is_a_bias(shape: tuple[int, ...]) -> None:
    body = "g (float[N,4,5,5] x) => (float[N,4,5,5] y) { a = Conv(x, w) s = Add(c, a) y = Relu(s) }"
    grouping = grouped(body, {**CONV, "c": shape})
    assert nodes_of(grouping) == [("a", "s", "y")]
    assert grouping.groups[0].weight.bias == "c"
    assert len(grouping.groups[0].inputs) == 1


def test_bias_of_the_convolution_comes_first() -> None:
    body = "g (float[N,4,5,5] x) => (float[N,4,5,5] y) { a = Conv(x, w, b) y = Add(a, c) }"
    assert grouped(body, {**CONV, "b": (4,), "c": (4, 1, 1)}).groups[0].weight.bias == "b"


def test_constant_along_another_axis_is_no_bias() -> None:
    body = "g (float[N,4,5,4] x) => (float[N,4,5,4] y) { a = Conv(x, w) y = Add(a, c) }"
    assert nodes_of(grouped(body, {**CONV, "c": (4,)})) == [("a",)]


def test_bias_and_activation_of_a_matmul() -> None:
    body = """g (float[N,7,8] x) => (float[N,7,8] y) {
        a = MatMul(x, w) b = Add(c, a) y = Relu(b) }"""
    group = grouped(body, {"w": (8, 8), "c": (8,)}).groups[0]
    assert group.nodes == ("a", "b", "y")
    assert (group.weight.bias, group.weight.axis, group.weight.channel_axis) == ("c", 1, 2)
    assert group.flops == 2 * 7 * 8 * 8
