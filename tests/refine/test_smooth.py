"""SmoothQuant: the same function, the paper's factors, and nothing touched that must not be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from tests.emit import examples as emission
from tests.emit.examples import run_plainly
from tests.groups.graphs import from_text
from tests.networks import Builder
from tests.prepared import RUNTIME, Prepared, normal, prepare, sample_shapes
from tests.sensitivity.examples import fix_batch
from trt_mpq.dataset.samples import checked_samples
from trt_mpq.errors import CalibrationError
from trt_mpq.graph.edit import constant_array
from trt_mpq.groups import groups_from_model
from trt_mpq.refine.equalize import equalize
from trt_mpq.refine.smooth import smooth
from trt_mpq.runtime.base import Arrays, with_outputs
from trt_mpq.types import Precision, TensorSpec
from trt_mpq.types.observer import Progress

CHANNELS = 32


def encoder(outlier: float = 30.0, *, post_norm: bool = False) -> Builder:
    """A LayerNorm with an outlier channel, read by Q, K and V, and after a Relu a second linear layer.

    With `post_norm` the LayerNorm feeds a residual Add too, as in BERT.
    """
    b = Builder(0)
    scale = np.ones(CHANNELS, np.float32)
    scale[3] = outlier
    shift = b.normal("norm.shift", (CHANNELS,), 0.1)
    x = b.node("LayerNormalization", "norm", ["input", b.constant("norm.scale", scale), shift])
    q, k, v = (b.linear(name, x, (CHANNELS, CHANNELS)) for name in ("query", "key", "value"))
    y = b.node("Mul", "mix", [b.node("Sigmoid", "gate", [q]), b.node("Tanh", "squash", [k])])
    y = b.node("Add", "join", [y, v])
    y = b.node("Add", "skip", [y, x]) if post_norm else y
    y = b.relu("up.relu", b.linear("up", y, (CHANNELS, 64)))
    b.linear("down", y, (64, 8))
    return b


def prepared_encoder(**options: object) -> Prepared:
    return prepare(encoder(**options).model((5, CHANNELS), (5, 8)))  # type: ignore[arg-type]


def smoothed(
    prepared: Prepared, values: np.ndarray, alpha: float = 0.5, batch: int = 4, progress: Progress | None = None
) -> tuple[ir.Model, tuple[str, ...]]:
    shapes, samples = sample_shapes(prepared.model), prepared.samples(values)
    found = smooth(prepared.graph, shapes, samples, RUNTIME, alpha, batch, progress)
    return found.graph, found.tensors


def initializer(graph: ir.Model, name: str) -> np.ndarray:
    return constant_array(graph.graph.initializers[name])


def assert_same_function(before: ir.Model, after: ir.Model, feeds: Arrays) -> None:
    expected, found = run_plainly(before, feeds), run_plainly(after, feeds)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-4 * np.abs(values).max())


def eq4(activations: np.ndarray, weights: list[np.ndarray], alpha: float) -> np.ndarray:
    """Equation 4 of the paper; activations [..., channels], weights [channels, outputs]."""
    channels = activations.shape[-1]
    most = [max(abs(float(x)) for x in activations[..., j].ravel()) for j in range(channels)]
    heaviest = [max(abs(float(w)) for weight in weights for w in weight[j]) for j in range(channels)]
    return np.array([m**alpha / h ** (1 - alpha) for m, h in zip(most, heaviest, strict=True)])


@pytest.mark.parametrize(("alpha", "batch"), [(0.0, 4), (0.3, 4), (0.5, 4), (0.5, 1), (0.5, 3), (0.5, 100), (1.0, 4)])
def test_factors_are_those_of_the_paper_and_the_function_stays(alpha: float, batch: int) -> None:
    prepared, values = prepared_encoder(), normal(10, 5, CHANNELS)
    graph, tensors = smoothed(prepared, values, alpha, batch)
    assert tensors == ("norm.out", "up.relu.out")
    assert [node.op_type for node in graph.graph] == [node.op_type for node in prepared.graph.graph]
    assert_same_function(prepared.graph, graph, {"input": normal(4, 5, CHANNELS, seed=1)})
    exact = run_plainly(with_outputs(prepared.graph, list(tensors)), {"input": values})
    for tensor, writer, readers in (
        ("norm.out", {"norm.scale": -1, "norm.shift": -1}, ("query", "key", "value")),
        ("up.relu.out", {"up.weight": -1, "up.bias": -1}, ("down",)),
    ):
        weights = [initializer(prepared.graph, f"{name}.weight") for name in readers]
        factor = eq4(exact[tensor], weights, alpha)
        for name, weight in zip(readers, weights, strict=True):
            np.testing.assert_allclose(initializer(graph, f"{name}.weight"), weight * factor[:, None], rtol=1e-5)
        for name in writer:
            np.testing.assert_allclose(initializer(graph, name), initializer(prepared.graph, name) / factor, rtol=1e-5)


def test_a_chain_of_gemms_is_smoothed_link_by_link() -> None:
    b = Builder(0)
    x = b.relu("a.relu", b.gemm("a", "input", (CHANNELS, 48)))
    x = b.node("LeakyRelu", "b.relu", [b.gemm("b", x, (48, 40), transposed=False)], alpha=0.1)
    b.gemm("c", x, (40, 8))
    prepared, values = prepare(b.model((CHANNELS,), (8,))), normal(20, CHANNELS)
    graph, tensors = smoothed(prepared, values)
    assert tensors == ("a.relu.out", "b.relu.out")
    assert_same_function(prepared.graph, graph, {"input": normal(4, CHANNELS, seed=1)})
    first, second = (
        eq4(prepared.tensors(values, name)[name], [weight], 0.5)
        for name, weight in zip(
            tensors, [initializer(prepared.graph, "b.weight"), initializer(prepared.graph, "c.weight").T], strict=True
        )
    )
    expected = initializer(prepared.graph, "b.weight") * first[:, None] / second
    np.testing.assert_allclose(initializer(graph, "b.weight"), expected, rtol=1e-5)


def test_a_residual_branch_keeps_the_tensor_it_reads() -> None:
    """Post-LN, as in BERT: gamma cannot take the division, because the residual Add would read it too."""
    prepared, values = prepared_encoder(post_norm=True), normal(10, 5, CHANNELS)
    graph, tensors = smoothed(prepared, values)
    assert tensors == ("up.relu.out",)
    assert_same_function(prepared.graph, graph, {"input": values})
    for name in ("norm.scale", "norm.shift", "query.weight"):
        np.testing.assert_array_equal(initializer(graph, name), initializer(prepared.graph, name))


SMOOTHED = {
    "bert": ("context.merge.out", "gelu.half.out"),
    "gpt": ("norm1.out", "context.merge.out", "norm2.out", "gelu.mul.out", "norm3.out"),
    "vit": ("norm1.out", "context.merge.out", "norm2.out"),
    "conv_attention": ("context.merge.out",),
    "mlp": ("fc1.relu.out", "fc2.relu.out"),
    "residual_cnn": (),
}


@pytest.mark.parametrize("name", SMOOTHED)
def test_whole_networks_keep_their_function_and_their_groups(name: str) -> None:
    prepared, feeds = emission.prepared(name), emission.feeds(name)
    graph, tensors = smoothed(prepared, feeds["input"])
    assert tensors == SMOOTHED[name]
    assert_same_function(prepared.graph, graph, feeds)
    shapes = {"input": (1, *feeds["input"].shape[1:])}
    groups = groups_from_model(graph, shapes, exclusions="none").groups
    assert [group.nodes for group in groups] == [group.nodes for group in prepared.grouping.groups]


UNTOUCHED = {
    "another reader": ("n = LayerNormalization(x, g) y = MatMul(n, w) z = Sigmoid(n)", ("Sigmoid reads it too",)),
    "a reader that cannot be rescaled": (
        "n = LayerNormalization(x, g) y = MatMul(n, w) z = MatMul(n, v) u = Relu(v)",
        ("MatMul reads it too",),
    ),
    "the data as the second operand": (
        "n = LayerNormalization(x, g) y = MatMul(n, w) z = MatMul(left, n)",
        ("MatMul reads it too",),
    ),
    "tied weights": ("n = LayerNormalization(x, g) y = MatMul(n, w) z = MatMul(x, w)", ()),
    "a view that others read": (
        "n = LayerNormalization(x, g) r = Reshape(n, rows) y = MatMul(r, w) z = Relu(r)",
        ("Relu reads it too",),
    ),
    "nothing before it that takes it": (
        "e = Exp(x) y = MatMul(e, w)",
        ("no constants before its Exp can take it",),
    ),
    "the network's input": ("y = MatMul(x, w)", ("it is an input",)),
}


@pytest.mark.parametrize("form", UNTOUCHED)
def test_what_is_read_otherwise_is_left_alone_and_why_is_said(form: str) -> None:
    body, why = UNTOUCHED[form]
    used = {"g": (8,), "w": (8, 8), "v": (8, 8), "left": (5, 5), "rows": np.int64([-1, 8])}
    constants = {name: value for name, value in used.items() if f"({name}," in body or f" {name})" in body}
    graph = from_text(f"g (float[N,5,8] x) => (float[N,5,8] y) {{ {body} }}", constants)
    samples = checked_samples({"x": normal(4, 5, 8)}, (TensorSpec("x", "float32", ("N", 5, 8)),), None, "", "")
    found = smooth(graph, {"x": (1, 5, 8)}, samples, RUNTIME, 0.5, 4)
    assert found.tensors == ()
    assert tuple(found.left.values()) == why
    assert ir.to_proto(found.graph) == ir.to_proto(graph)


def test_a_tensor_that_is_a_network_output_is_left_alone() -> None:
    prepared = prepared_encoder()
    graph = with_outputs(prepared.graph, ["norm.out", "output"])
    _, tensors = smoothed(replace(prepared, graph=graph), normal(4, 5, CHANNELS))
    assert tensors == ("up.relu.out",)


def scaled_product(scale: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The constants of ``(x * scale) @ weight`` after smoothing on data of ones."""
    channels = len(scale)
    graph = from_text(
        f"g (float[N,{channels}] x) => (float[N,{channels}] y) {{ n = Mul(x, g) y = MatMul(n, w) }}",
        {"g": scale, "w": weight},
    )
    spec = TensorSpec("x", "float32", ("N", channels))
    samples = checked_samples({"x": np.ones((2, channels), np.float32)}, (spec,), None, "", "")
    found = smooth(graph, {"x": (1, channels)}, samples, RUNTIME, 0.5, 2)
    assert (found.tensors, found.left) == (("n",), {})
    return initializer(found.graph, "g"), initializer(found.graph, "w")


def test_dead_channels_stay_and_nothing_becomes_infinite() -> None:
    scale, weight = scaled_product(np.float32([0, 4, 4]), np.float32([[4, 0, 0], [0, 0, 0], [0, 0, 1]]))
    assert scale.tolist() == [0, 4, 2]
    assert weight.tolist() == [[4, 0, 0], [0, 0, 0], [0, 0, 2]]
    for constant in scaled_product(np.float32([1e-30, 1e30]), np.diag(np.float32([1e30, 1e-30]))):
        assert np.isfinite(constant).all()
        assert (np.diag(constant) if constant.ndim == 2 else constant).all()


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_progress_ends_at_the_number_of_samples(batch: int) -> None:
    steps: list[tuple[int, int]] = []
    prepared, values = prepared_encoder(), normal(10, 5, CHANNELS)
    smoothed(prepared, values, batch=batch, progress=lambda done, total: steps.append((done, total)))
    assert steps[-1] == (10, 10)


def test_a_fixed_batch_dimension_is_filled() -> None:
    proto, values = encoder().model((5, CHANNELS), (5, 8)), normal(10, 5, CHANNELS)
    (found, tensors), (expected, _) = (smoothed(prepare(p), values) for p in (fix_batch(proto, 4), proto))
    assert tensors == ("norm.out", "up.relu.out")
    for name in ("norm.scale", "norm.shift", "query.weight", "up.weight", "down.weight"):
        np.testing.assert_allclose(initializer(found, name), initializer(expected, name), rtol=1e-6)


@pytest.mark.parametrize("batch", [1, 4])
def test_padding_does_not_count_where_the_data_tells_lengths(batch: int) -> None:
    """The padding looks up a huge row, which must not decide any factor."""
    table = np.ones((3, 8), np.float32)
    table[1] = np.arange(1, 9)
    table[2] = 1000
    body = """n = Gather(table, ids) k = Mul(n, g) r = Relu(k) y = MatMul(r, w)
        m = Cast<to = 1>(mask) u = Unsqueeze(m, axis) z = Mul(y, u)"""
    constants = {"table": table, "g": (8,), "w": (8, 8), "axis": np.int64([2])}
    graph = from_text(f"g (int64[N,T] ids, int64[N,T] mask) => (float[N,T,8] z) {{ {body} }}", constants)
    ids, mask = (
        np.array([[1, 0, 2, 2], [0, 2, 2, 2], [1, 1, 1, 2]]),
        np.array([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]]),
    )
    specs = tuple(TensorSpec(name, "int64", ("N", "T")) for name in ("ids", "mask"))
    shapes = {"ids": (1, 4), "mask": (1, 4)}

    def magnitude(trim: str | None) -> list[float]:
        """With an alpha of 1 rows of the weight are multiplied by it."""
        samples = checked_samples({"ids": ids, "mask": mask}, specs, None, "", "", trim=trim)
        found = smooth(graph, shapes, samples, RUNTIME, 1.0, batch)
        assert found.tensors == ("r",)
        return (initializer(found.graph, "w") / initializer(graph, "w"))[:, 0].round(4).tolist()

    assert magnitude("mask") == [1, 2, 3, 4, 5, 6, 7, 8]
    assert magnitude(None) == [1000] * 8


def test_a_tensor_that_is_not_finite_is_named() -> None:
    graph = from_text(
        "g (float[N,8] x) => (float[N,8] y) { e = Exp(x) n = Mul(e, g) y = MatMul(n, w) }", {"g": (8,), "w": (8, 8)}
    )
    samples = checked_samples(
        {"x": np.full((2, 8), 200, np.float32)}, (TensorSpec("x", "float32", ("N", 8)),), None, "", ""
    )
    with pytest.raises(CalibrationError, match="tensor n is NaN or infinite"):
        smooth(graph, {"x": (1, 8)}, samples, RUNTIME, 0.5, 2)


def test_the_given_graph_is_not_changed() -> None:
    prepared = prepared_encoder()
    before = ir.to_proto(prepared.graph)
    smoothed(prepared, normal(4, 5, CHANNELS))
    assert ir.to_proto(prepared.graph) == before


def test_it_works_on_an_equalized_network() -> None:
    prepared, feeds = emission.prepared("residual_cnn"), emission.feeds("residual_cnn")
    equalized, pairs = equalize(prepared.graph, prepared.grouping)
    graph, _ = smoothed(replace(prepared, graph=equalized), feeds["input"])
    assert pairs
    assert_same_function(prepared.graph, graph, feeds)


def test_an_outlier_channel_costs_less() -> None:
    """One scale for all channels leaves those beside the outlier a handful of steps."""
    prepared, values = prepared_encoder(outlier=100.0), normal(32, 5, CHANNELS)
    exact = run_plainly(prepared.graph, {"input": values})["output"]

    def error(model: ir.Model) -> float:
        network = replace(prepared, graph=model).network(prepared.samples(values))
        plan = network.grouping.uniform(Precision.INT8)
        found = RUNTIME.load(network.emitter().reference(plan)).run({"input": values})
        return float(np.mean((found["output"] - exact) ** 2) / np.mean(exact**2))

    assert error(smoothed(prepared, values)[0]) < 0.5 * error(prepared.graph)
