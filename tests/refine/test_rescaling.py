"""Where a division can go without a new operator, against plain ONNX Runtime and brute force."""

from __future__ import annotations

import re

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.emit.examples import run_plainly
from tests.groups.graphs import from_text
from trt_mpq.graph.edit import constant_array
from trt_mpq.groups.shapes import bind_shapes, shape_of
from trt_mpq.refine.rescaling import division, rescaled
from trt_mpq.runtime.base import with_outputs

RANDOM = np.random.default_rng(0)


def random(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


CONSTANTS = {
    "w": random(8, 8),
    **{name: random(8) for name in ("g", "b", "c")},
    "row": random(1, 8),
    "both": random(5, 8),
    "each": random(2, 4, 8),
    "half": np.float32([0.5]),
    "two": np.float32([2]),
    "heads": np.int64([0, -1, 2, 4]),
    "merged": np.int64([-1, 5, 8]),
    "square": np.int64([-1, 5, 5]),
    "rows": np.int64([-1, 8]),
    "mixed": np.int64([0, 8, 5]),
}

DIVISIBLE = {
    "LayerNormalization": "y = LayerNormalization<axis = -1>(x, g, b)",
    "LayerNormalization without a shift": "y = LayerNormalization<axis = 2>(x, g)",
    "LayerNormalization spelled out": """m = ReduceMean<axes = [2]>(x) d = Sub(x, m) q = Mul(d, d)
        t = ReduceMean<axes = [2]>(q) e = Add(t, half) s = Sqrt(e) n = Div(d, s) h = Mul(n, g) y = Add(h, b)""",
    "constants that others read": "y = LayerNormalization(x, g, g) z = Mul(x, g)",
    "a linear layer and its bias": "p = MatMul(x, w) y = Add(b, p)",
    "a bias of one value": "p = MatMul(x, w) y = Add(p, half)",
    "a scale between": "p = MatMul(x, w) s = Mul(p, two) y = Add(s, c)",
    "Relu and LeakyRelu": "p = MatMul(x, w) l = LeakyRelu<alpha = 0.2>(p) y = Relu(l)",
    "Gemm of rows": "r = Reshape(x, rows) p = Gemm<alpha = 0.5, beta = 3.0>(r, w, b) y = Reshape(p, merged)",
    "Gemm, transposed": "r = Reshape(x, rows) p = Gemm<transB = 1>(r, w, row) y = Relu(p)",
    "Gemm without a bias": "r = Reshape(x, rows) p = Gemm(r, w) y = LeakyRelu(p)",
    "the 0.5 of GELU": "e = Erf(x) o = Add(e, two) m = Mul(x, o) y = Mul(half, m)",
    "the linear branch of a gate": "p = MatMul(x, w) e = Sigmoid(x) y = Mul(e, p)",
    "heads and back": """p = MatMul(x, w) r = Reshape(p, heads) t = Transpose<perm = [0, 2, 1, 3]>(r)
        k = Transpose<perm = [0, 2, 1, 3]>(t) y = Reshape(k, merged)""",
    "V of attention": """p = MatMul(x, w) q = Add(p, b) r = Reshape(q, heads) t = Transpose<perm = [0, 2, 1, 3]>(r)
        h = Reshape(x, heads) i = Transpose<perm = [0, 2, 1, 3]>(h) k = Transpose<perm = [0, 2, 3, 1]>(h)
        s = MatMul(i, k) a = Softmax<axis = -1>(s) o = MatMul(a, t) f = Transpose<perm = [0, 2, 1, 3]>(o)
        y = Reshape(f, merged)""",
}
INDIVISIBLE = {
    "a network input": "y = Reshape(x, merged)",
    "an activation that is not homogeneous": "p = MatMul(x, w) y = Sigmoid(p)",
    "Clip": "p = MatMul(x, w) y = Clip(p, half, two)",
    "GELU without a constant": "s = Mul(x, two) g1 = Sigmoid(s) y = Mul(x, g1)",
    "a residual": "p = MatMul(x, w) y = Add(p, x)",
    "a tensor on the way that others read": "p = MatMul(x, w) y = Relu(p) z = Sigmoid(p)",
    "a weight that others read": "y = MatMul(x, w) z = MatMul(x, w)",
    "a normalization over two axes": "y = LayerNormalization<axis = 1>(x, both)",
    "a matrix per head": "r = Reshape(x, heads) t = Transpose<perm = [0, 2, 1, 3]>(r) y = MatMul(t, each)",
    "channels that a reshape mixes": "p = MatMul(x, w) r = Reshape(p, mixed) y = Transpose<perm = [0, 2, 1]>(r)",
    "rows of V": "p = MatMul(x, w) t = Transpose<perm = [0, 2, 1]>(p) s = MatMul(x, t) y = Reshape(s, square)",
}


def graph_of(body: str) -> ir.Model:
    """The nodes of `body`, which write y, and a reader of y."""
    words = set(re.findall(r"\w+", body))
    constants = {name: value for name, value in CONSTANTS.items() if name in words}
    return from_text(f"g (float[N,5,8] x) => (float[N,M,K] out) {{ {body} out = Sigmoid(y) }}", constants)


def written(graph: ir.Model, shape: tuple[int, ...] = (1, 5, 8)) -> ir.Value:
    bound = bind_shapes(graph, {"x": shape}).graph
    return next(value for node in bound for value in node.outputs if value.name == "y")


def last_axis(factor: np.ndarray, value: ir.Value) -> np.ndarray:
    return factor.reshape([1] * (len(shape_of(value)) - 1) + [-1])


@pytest.mark.parametrize("form", DIVISIBLE)
def test_a_tensor_is_divided_channel_by_channel_and_no_node_is_added(form: str) -> None:
    graph = graph_of(DIVISIBLE[form])
    factor = np.exp(random(8)).astype(np.float32)
    found = division(written(graph), last_axis(factor, written(graph)))
    assert found is not None
    divided = rescaled(graph, found)
    assert [node.op_type for node in divided.graph] == [node.op_type for node in graph.graph]
    x = random(3, 5, 8)
    before, after = (run_plainly(with_outputs(g, ["y"]), {"x": x})["y"] for g in (graph, divided))
    np.testing.assert_allclose(after * factor, before, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("form", INDIVISIBLE)
def test_what_constants_cannot_take_is_refused(form: str) -> None:
    value = written(graph_of(INDIVISIBLE[form]))
    assert division(value, last_axis(np.ones(shape_of(value)[-1], np.float32), value)) is None


def test_a_network_output_is_not_divided() -> None:
    graph = with_outputs(graph_of(DIVISIBLE["LayerNormalization"]), ["y", "out"])
    assert division(written(graph), np.ones((1, 1, 8), np.float32)) is None


def test_the_given_graph_and_what_others_read_stay() -> None:
    graph = graph_of(DIVISIBLE["constants that others read"])
    value = written(graph)
    found = division(value, np.full((1, 1, 8), 2, np.float32))
    assert found is not None
    divided = rescaled(graph, found)
    normalization, other, _ = divided.graph
    np.testing.assert_array_equal(constant_array(normalization.inputs[1]) * 2, CONSTANTS["g"])
    np.testing.assert_array_equal(constant_array(other.inputs[1]), CONSTANTS["g"])
    np.testing.assert_array_equal(constant_array(graph.graph.initializers["g"]), CONSTANTS["g"])


def before_reshape(factor: np.ndarray, before: tuple[int, ...], after: tuple[int, ...]) -> np.ndarray | None:
    """What a constant in front of a reshape is multiplied by so that what comes behind it is divided by `factor`."""
    sizes = (",".join(map(str, shape)) for shape in (before, after))
    graph = from_text(
        "g (float[{}] x) => (float[{}] out) {{ m = Mul(x, one) y = Reshape(m, to) out = Sigmoid(y) }}".format(*sizes),
        {"one": (), "to": np.array(after, np.int64)},
    )
    found = division(written(graph, shape=before), factor)
    if found is None:
        return None
    (rescaling,) = found
    return rescaling.by


SIZES = st.lists(st.integers(1, 4), min_size=0, max_size=3).map(tuple)


@st.composite
def reshapes(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Shapes before and after a reshape, and the shape of a factor behind it."""
    blocks = draw(st.lists(SIZES, min_size=1, max_size=3))
    before, after = [], []
    for block in blocks:
        whole = (int(np.prod(block, dtype=int)),)
        left, right = draw(st.permutations([block, whole]))
        before += left
        after += right
    factor = tuple(draw(st.sampled_from([1, size])) for size in after)
    return tuple(before), tuple(after), factor


@given(reshapes())
def test_a_factor_in_front_of_a_reshape_divides_the_same_elements(shapes) -> None:
    before, after, varies = shapes
    factor = np.exp(np.random.default_rng(1).standard_normal(varies)).astype(np.float32)
    found = before_reshape(factor, before, after)
    assume(found is not None)
    values = np.random.default_rng(2).standard_normal(before).astype(np.float32)
    np.testing.assert_array_equal((values * found).reshape(after), values.reshape(after) * np.reciprocal(factor))


@pytest.mark.parametrize(
    ("before", "after", "factor", "expected"),
    [
        ((1, 7, 2, 4), (1, 7, 8), (1, 1, 8), (1, 1, 2, 4)),
        ((1, 7, 8), (1, 7, 2, 4), (1, 1, 2, 4), (1, 1, 8)),
        ((1, 7, 8), (7, 8), (1, 8), (1, 1, 8)),
        ((7, 8), (1, 7, 8), (1, 1, 8), (1, 8)),
        ((2, 8, 1, 1), (2, 8), (1, 8), (1, 8, 1, 1)),
        ((1, 7, 8), (1, 7, 2, 4), (1, 1, 1, 4), None),
        ((1, 8, 7), (1, 7, 8), (1, 1, 8), None),
        ((56,), (7, 8), (1, 8), None),
    ],
)
def test_a_factor_moves_in_whole_blocks_of_axes(before, after, factor, expected) -> None:
    found = before_reshape(np.ones(factor, np.float32), before, after)
    assert (None if found is None else found.shape) == expected
