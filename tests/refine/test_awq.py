"""AWQ: factors against a plain numpy AWQ, the same function in FP32, and nothing that loses more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.emit import examples as emission
from tests.groups.graphs import from_text
from tests.networks import Builder
from tests.prepared import RUNTIME, Prepared, prepare, sample_shapes
from tests.refine.test_smooth import assert_same_function, initializer
from trt_mpq.dataset.samples import checked_samples
from trt_mpq.emit import Network
from trt_mpq.errors import CalibrationError
from trt_mpq.groups import groups_from_model
from trt_mpq.refine.awq import _Observed, factors_of, scale_channels
from trt_mpq.refine.scalable import Scaled
from trt_mpq.types import Precision, Ranges, TensorSpec
from trt_mpq.types.observer import Progress

W8A16, W4A16, NVFP4 = Precision.W8A16, Precision.W4A16, Precision.NVFP4
WIDTH = 128


def encoder(*, post_norm: bool = False, width: int = WIDTH) -> Builder:
    """A LayerNorm with channels of very different size, read by Q, K and V, and behind a Relu a second linear layer."""
    b = Builder(0)
    scale = np.exp(b.random.normal(0, 1.5, width)).astype(np.float32)
    x = b.node("LayerNormalization", "norm", ["input", b.constant("norm.scale", scale), b.normal("shift", (width,), 1)])
    q, k, v = (b.linear(name, x, (width, width)) for name in ("query", "key", "value"))
    y = b.node("Add", "join", [b.node("Mul", "mix", [b.node("Sigmoid", "gate", [q]), b.node("Tanh", "tanh", [k])]), v])
    y = b.node("Add", "skip", [y, x]) if post_norm else y
    y = b.relu("up.relu", b.linear("up", y, (width, 2 * width)))
    b.linear("down", y, (2 * width, 16))
    return b


def prepared_encoder(**options: object) -> Prepared:
    width = int(options.get("width", WIDTH))  # type: ignore[call-overload]
    return prepare(encoder(**options).model((5, width), (5, 16)))  # type: ignore[arg-type]


def data(count: int = 12, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 5, width)).astype(np.float32)


def awq(
    prepared: Prepared,
    values: np.ndarray,
    *formats: Precision,
    batch: int = 4,
    progress: Progress = lambda done, total: None,
) -> Scaled:
    shapes, samples = sample_shapes(prepared.model), prepared.samples(values)
    return scale_channels(prepared.graph, shapes, samples, RUNTIME, formats, Precision.FP16, batch, progress)


def int4_in_blocks(weight: np.ndarray, block: int = 64) -> np.ndarray:
    """INT4 along the last axis with FP16 scales, for `weight` [outputs, channels]."""
    blocks = weight.reshape(len(weight), -1, block)
    scale = (np.abs(blocks).max(axis=2, keepdims=True) / 7).astype(np.float16).astype(np.float32)
    return (np.clip(np.round(blocks / scale), -8, 7) * scale).reshape(weight.shape)


def nvfp4(values: np.ndarray, amax: float) -> np.ndarray:
    """E2M1 in blocks of 16 along the last axis, E4M3 scales, one FP32 scale."""
    whole = np.float32(amax / (6 * 448))
    blocks = values.reshape(-1, 16)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / (np.float32(6) * whole)
    scale = np.clip(scale, 2.0**-9, 448).astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * whole
    codes = np.clip(blocks / scale, -6, 6).astype(ml_dtypes.float4_e2m1fn).astype(np.float32)
    return (codes * scale).reshape(values.shape)


def lost_w4a16(rows: np.ndarray, weights: list[np.ndarray], s: np.ndarray) -> float:
    found = [((rows / s) @ int4_in_blocks(w * s).T, rows @ w.T) for w in weights]
    return sum(float(np.sum((q - y) ** 2) / np.sum(y**2)) for q, y in found)


def lost_nvfp4(rows: np.ndarray, weights: list[np.ndarray], s: np.ndarray) -> float:
    most = max(np.abs(w * s).max() for w in weights)
    divided = nvfp4(rows / s, np.abs(rows / s).max())
    found = [(divided @ nvfp4(w * s, most).T, rows @ w.T) for w in weights]
    return sum(float(np.sum((q - y) ** 2) / np.sum(y**2)) for q, y in found)


def plain_awq(rows: np.ndarray, weights: list[np.ndarray], lost: Callable[..., float]) -> tuple[np.ndarray, float]:
    """The factors with the least error of a grid of exponents, and the error, as in the authors' auto_scale.py."""
    means = np.abs(rows).mean(axis=0)
    best, least = np.ones(len(means)), lost(rows, weights, np.ones(len(means), np.float32))
    for n in range(1, 21):
        s = means ** (n / 20)
        s = (s / np.sqrt(s.max() * s.min())).astype(np.float32)
        if (error := lost(rows, weights, s)) < least:
            best, least = s, error
    return best, least


TENSORS = {"norm.out": ("query", "key", "value"), "join.out": ("up",), "up.relu.out": ("down",)}


@pytest.mark.parametrize(("precision", "lost"), [(W4A16, lost_w4a16), (NVFP4, lost_nvfp4)])
def test_factors_are_those_of_a_plain_awq(precision: Precision, lost: Callable[..., float]) -> None:
    prepared, values = prepared_encoder(), data()
    found = awq(prepared, values, precision)
    assert set(found.tensors) | set(found.left) == set(TENSORS)
    assert {"norm.out", "up.relu.out"} >= set(found.tensors)
    assert "norm.out" in found.tensors
    rows = prepared.tensors(values, *TENSORS)
    for tensor in ("norm.out", "up.relu.out"):
        weights = [initializer(prepared.graph, f"{name}.weight").T for name in TENSORS[tensor]]
        expected, _ = plain_awq(rows[tensor].reshape(-1, weights[0].shape[1]), weights, lost)
        for name, weight in zip(TENSORS[tensor], weights, strict=True):
            after = initializer(found.graph, f"{name}.weight").T
            np.testing.assert_allclose(after, weight * expected, rtol=2e-4)


def test_a_layer_loses_less_by_it_and_the_network_too() -> None:
    prepared, values = prepared_encoder(), data(32)
    exact = RUNTIME.load(prepared.graph).run({"input": values})["output"]

    def error(graph: ir.Model) -> float:
        grouping = groups_from_model(graph, {"input": (1, 5, WIDTH)}, "none", formats=(W4A16,))
        network = Network(prepared.model, graph, grouping, Ranges({}, 1, {}))
        found = RUNTIME.load(network.emitter().reference(grouping.uniform(W4A16))).run({"input": values})["output"]
        return float(np.square(found - exact).sum() / np.square(exact).sum())

    assert error(awq(prepared, values, W4A16).graph) < 0.8 * error(prepared.graph)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 3), st.sampled_from([W8A16, W4A16, NVFP4]))
def test_the_function_stays_and_no_layer_loses_more(seed: int, spread: float, precision: Precision) -> None:
    random = np.random.default_rng(seed)
    b = Builder(seed)
    scale = b.constant("scale", np.exp(random.normal(0, spread, WIDTH)).astype(np.float32))
    b.linear("layer", b.node("Mul", "scaled", ["input", scale]), (WIDTH, 24))
    prepared, values = prepare(b.model((WIDTH,), (24,))), random.standard_normal((60, WIDTH)).astype(np.float32)
    found = awq(prepared, values, precision)
    assert_same_function(prepared.graph, found.graph, {"input": values})
    if precision is W8A16:
        return
    rows, weight = values * initializer(prepared.graph, "scale"), initializer(prepared.graph, "layer.weight").T
    s = initializer(prepared.graph, "scale") / initializer(found.graph, "scale")
    lost = lost_w4a16 if precision is W4A16 else lost_nvfp4
    assert lost(rows, [weight], s) <= lost(rows, [weight], np.ones(WIDTH, np.float32)) * 1.001


def test_with_several_formats_none_loses_more() -> None:
    prepared, values = prepared_encoder(), data()
    found = awq(prepared, values, W4A16, NVFP4)
    rows = prepared.tensors(values, "norm.out")["norm.out"].reshape(-1, WIDTH)
    weights = [initializer(prepared.graph, f"{name}.weight").T for name in TENSORS["norm.out"]]
    s = initializer(prepared.graph, "norm.scale") / initializer(found.graph, "norm.scale")
    assert not np.allclose(s, 1)
    for lost in (lost_w4a16, lost_nvfp4):
        assert lost(rows, weights, s) <= lost(rows, weights, np.ones(WIDTH, np.float32))


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_the_batch_changes_nothing(batch: int) -> None:
    prepared, values = prepared_encoder(), data()
    one, other = awq(prepared, values, W4A16), awq(prepared, values, W4A16, batch=batch)
    assert one.tensors == other.tensors
    for name in ("norm.scale", "query.weight", "down.weight"):
        np.testing.assert_allclose(initializer(one.graph, name), initializer(other.graph, name), rtol=1e-5)


@pytest.mark.parametrize("name", ["bert", "gpt", "vit", "mlp"])
def test_whole_networks_keep_their_function_and_their_groups(name: str) -> None:
    prepared, feeds = emission.prepared(name), emission.feeds(name)
    found = awq(prepared, feeds["input"], W8A16)
    assert_same_function(prepared.graph, found.graph, feeds)
    groups = groups_from_model(found.graph, {"input": (1, *feeds["input"].shape[1:])}, exclusions="none").groups
    assert [group.nodes for group in groups] == [group.nodes for group in prepared.grouping.groups]


def test_what_cannot_be_scaled_is_left_with_the_reason() -> None:
    post_norm = awq(prepared_encoder(post_norm=True), data(), W4A16)
    assert post_norm.left["norm.out"] == "Add reads it too"
    narrow = prepared_encoder(width=48)
    found = awq(narrow, data(width=48), W4A16)
    assert (found.tensors, found.left["norm.out"]) == ((), "its readers cannot run in w4a16")
    assert ir.to_proto(found.graph) == ir.to_proto(narrow.graph)


def test_channels_of_equal_size_have_nothing_to_gain() -> None:
    b = Builder(1)
    x = b.node("Mul", "scaled", ["input", b.constant("scale", np.ones(WIDTH, np.float32))])
    b.linear("layer", x, (WIDTH, 8))
    prepared = prepare(b.model((WIDTH,), (8,)))
    found = awq(prepared, np.sign(data()[:, 0]), W4A16)
    assert found.left == {"scaled.out": "no scales lose less"}


def test_dead_channels_stay_and_nothing_becomes_infinite() -> None:
    np.testing.assert_array_equal(factors_of(np.array([0.0, 4.0, 1.0]), 0.5), np.float32([1, 2**0.5, 0.5**0.5]))
    np.testing.assert_array_equal(factors_of(np.zeros(3), 0.5), np.ones(3))
    assert np.isfinite(factors_of(np.array([1e-30, 1e30]), 1.0)).all()


@pytest.mark.parametrize("portions", [[3000], [1] * 3000, [700, 1300, 999, 1]])
def test_rows_are_evenly_over_the_data_whatever_portions_they_come_in(portions: list[int]) -> None:
    rows, seen, start = np.arange(3000, dtype=np.float32)[:, None], _Observed.nothing(1), 0
    for count in portions:
        seen.add(rows[start : start + count])
        start += count
    np.testing.assert_array_equal(seen.rows, rows[::4])
    assert seen.means == pytest.approx(rows.mean())


def test_a_tensor_that_is_not_finite_is_named() -> None:
    graph = from_text(
        "g (float[N,8] x) => (float[N,8] y) { e = Exp(x) n = Mul(e, g) y = MatMul(n, w) }", {"g": (8,), "w": (8, 8)}
    )
    spec = TensorSpec("x", "float32", ("N", 8))
    samples = checked_samples({"x": np.full((2, 8), 200, np.float32)}, (spec,), None, "", "")
    with pytest.raises(CalibrationError, match="tensor n is NaN or infinite"):
        scale_channels(graph, {"x": (1, 8)}, samples, RUNTIME, (W8A16,), Precision.FP16, 2, lambda done, total: None)


def test_progress_ends_at_the_number_of_tensors_and_the_given_graph_stays() -> None:
    prepared, steps = prepared_encoder(), list[tuple[int, int]]()
    before = ir.to_proto(prepared.graph)
    awq(replace(prepared), data(), W4A16, progress=lambda done, total: steps.append((done, total)))
    assert steps[-1][0] == steps[-1][1] > 0
    assert ir.to_proto(prepared.graph) == before
