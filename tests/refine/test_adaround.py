"""Learned rounding against brute force, on held-out data, and for every kind of layer."""

from __future__ import annotations

import sys
from itertools import product

import numpy as np
import pytest

from tests.emit.examples import ALL_NETWORKS, prepared
from tests.networks import NETWORKS, Builder, sample_input
from tests.prepared import RUNTIME, Prepared, normal, prepare
from trt_mpq.dataset import Samples
from trt_mpq.emit import Refinements, Roundings
from trt_mpq.emit.network import Network
from trt_mpq.errors import MissingDependencyError
from trt_mpq.numerics import quantize_weight
from trt_mpq.refine.adaround import learn_rounding
from trt_mpq.refine.files import roundings_from_file, save_roundings
from trt_mpq.runtime.base import Array
from trt_mpq.types import Precision, PrecisionPlan

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

INT8, INT4, FP8, FP16 = Precision.INT8, Precision.INT4, Precision.FP8, Precision.FP16


def calibrated(network: Prepared, values: Array) -> tuple[Network, Samples]:
    samples = network.samples(values)
    return network.network(samples), samples


def plan_of(network: Prepared, precision: Precision) -> PrecisionPlan:
    return PrecisionPlan.uniform(network.grouping.groups, precision, FP16)


def learned(
    network: Prepared, plan: Precision | PrecisionPlan, values: Array, steps: int = 200, seed: int = 0, batch: int = 32
) -> Roundings:
    """Learned under `plan`, or the uniform one of a precision."""
    of, samples = calibrated(network, values)
    wanted = plan_of(network, plan) if isinstance(plan, Precision) else plan
    return learn_rounding(of, wanted, samples, RUNTIME, steps=steps, seed=seed, batch=batch)


def small_layer() -> Prepared:
    """A product of 4 x 2 weights behind correlated inputs, so that rounding errors can cancel."""
    b = Builder(2)
    b.relu("fc.relu", b.gemm("fc", "input", (4, 2)))
    return prepare(b.model((4,), (2,)))


def correlated(count: int, features: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(9).standard_normal((features, features))
    return (random.standard_normal((count, features)) @ mixing + 0.5).astype(np.float32)


def test_the_size_of_runs_changes_no_rounding() -> None:
    network, values = small_layer(), correlated(80, 4)
    apart, together = learned(network, INT4, values, batch=1), learned(network, INT4, values)
    assert apart.keys() == together.keys()
    assert all(np.array_equal(apart[key], together[key]) for key in together)


@pytest.mark.parametrize("precision", [INT4, FP8])
def test_the_learned_rounding_is_near_the_best_of_all(precision: Precision) -> None:
    """All 2^8 roundings of a layer, computed in numpy on the quantized inputs."""
    network, values = small_layer(), correlated(256, 4)
    (group,) = network.grouping.groups
    up = learned(network, precision, values).get((group.weight.name, precision))
    weight = network.graph.graph.initializers["fc.weight"].const_value.numpy()
    bias = network.graph.graph.initializers["fc.bias"].const_value.numpy()
    amax = np.abs(values).max()
    scale = np.float32(np.float16(amax / (7 if precision is INT4 else 448)))
    seen = quantized(values / scale, precision) * scale
    exact = np.maximum(values @ weight.T + bias, 0)

    def error(directions: np.ndarray) -> float:
        rounded = quantize_weight(weight, 0, precision, up=directions).values
        return float(((np.maximum(seen @ rounded.T + bias, 0) - exact) ** 2).mean())

    low, high = (quantize_weight(weight, 0, precision, up=np.full((2, 4), choice)).values for choice in (False, True))
    every = [error(np.reshape(bits, (2, 4))) for bits in product([False, True], repeat=8)]
    nearest = error(high - weight < weight - low)
    assert up is not None
    assert error(up) < nearest
    assert error(up) < 1.05 * min(every) < nearest
    assert sum(other < error(up) for other in every) <= 5, "among the best two in a hundred"


def quantized(ratio: np.ndarray, precision: Precision) -> np.ndarray:
    if precision is INT4:
        return np.clip(np.rint(ratio), -8, 7)
    import ml_dtypes

    return np.clip(ratio, -448, 448).astype(ml_dtypes.float8_e4m3fn).astype(np.float32)


def output_error(network: Network, roundings: Roundings, plan: PrecisionPlan, x: Array) -> float:
    emitter = network.emitter(Refinements(roundings=roundings))
    exact = RUNTIME.load(network.graph).run({"input": x})["output"]
    return float(((RUNTIME.load(emitter.reference(plan)).run({"input": x})["output"] - exact) ** 2).mean())


@pytest.mark.parametrize("name", ["residual_cnn", "depthwise_cnn", "decoder"])
def test_the_error_falls_on_data_that_was_not_seen(name: str) -> None:
    network, values = prepared(name), sample_input(NETWORKS[name](), 64)["input"]
    (of, _), plan = calibrated(network, values), plan_of(network, INT4)
    roundings = learned(network, INT4, values, steps=60)
    unseen = sample_input(NETWORKS[name](), 64, seed=7)["input"]
    before, after = (output_error(of, found, plan, unseen) for found in ({}, roundings))
    assert after < 0.9 * before
    assert any(up.any() and not up.all() for up in roundings.values())


@pytest.mark.parametrize("name", ["mlp", "decoder", "depthwise_cnn", "inception"])
def test_every_kind_of_layer_is_learned(name: str) -> None:
    """Gemm either way round, MatMul with Add, ConvTranspose with groups, depthwise, branches."""
    network = prepared(name)
    roundings = learned(network, INT4, sample_input(NETWORKS[name](), 128)["input"], steps=10)
    shapes = {weight.name: weight.shape for group in network.grouping.groups for weight in group.weights}
    assert {weight: up.shape for (weight, _), up in roundings.items()}.items() <= shapes.items()
    assert len(roundings) >= len(shapes) - 1, "nearest is hardly ever the best for a whole layer"


def test_attention_has_no_weights_to_learn() -> None:
    network = prepared("conv_attention")
    attention = [group for group in network.grouping.groups if not group.weights]
    assert [group.op_type for group in attention] == ["Attention"]
    roundings = learned(network, INT8, sample_input(ALL_NETWORKS["conv_attention"](), 32)["input"], steps=5)
    assert {weight for weight, _ in roundings} <= {w.name for g in network.grouping.groups for w in g.weights}
    assert roundings


def test_a_seed_gives_one_rounding() -> None:
    network, values = prepared("mlp"), sample_input(NETWORKS["mlp"](), 96)["input"]
    first, again, other = (learned(network, INT4, values, 20, seed) for seed in (0, 0, 1))
    assert first.keys() == again.keys()
    assert all(np.array_equal(first[key], again[key]) for key in first)
    assert any(not np.array_equal(first[key], other[key]) for key in first.keys() & other.keys())


def test_only_what_the_plan_quantizes_is_rounded_in_its_precision() -> None:
    network, values = prepared("mlp"), sample_input(NETWORKS["mlp"](), 128)["input"]
    plan = plan_of(network, INT8).replace({"fc1": FP16, "fc3": INT4})
    assert set(learned(network, plan, values, 10)) == {("fc2.weight", INT8), ("fc3.weight", INT4)}


def test_a_weight_of_two_layers_stays_at_nearest() -> None:
    b = Builder(0)
    x = b.relu("first.relu", b.gemm("first", "input", (16, 16)))
    b.gemm("second", x, (16, 16))
    b.nodes[-1].input[1] = "first.weight"
    network = prepare(b.model((16,), (16,)))
    assert len({group.weight.name for group in network.grouping.groups}) == 1
    assert learned(network, INT4, normal(64, 16), 10) == {}


def test_weights_on_the_grid_stay_where_they_are() -> None:
    """A layer that quantization does not change has nothing to learn."""
    b = Builder(0)
    content = np.random.default_rng(0).integers(-7, 8, (16, 16)).astype(np.float32)
    content[:, 0] = 7
    b.node("Gemm", "fc", ["input", b.constant("fc.weight", content)], transB=1)
    network = prepare(b.model((16,), (16,)))
    values = np.random.default_rng(1).integers(-7, 8, (32, 16)).astype(np.float32)
    values[0, 0] = 7
    assert learned(network, INT4, values, 10) == {}


def test_progress_ends_at_the_number_of_layers() -> None:
    steps: list[tuple[int, int]] = []
    network = prepared("mlp")
    of, samples = calibrated(network, sample_input(NETWORKS["mlp"](), 16)["input"])
    learn_rounding(
        of, plan_of(network, INT8), samples, RUNTIME, steps=2, seed=0,
        progress=lambda done, total: steps.append((done, total)),
    )  # fmt: skip
    assert steps == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_roundings_survive_the_disk_as_bits(tmp_path) -> None:
    random = np.random.default_rng(0)
    roundings = {
        ("a/b.weight", INT8): random.integers(0, 2, (16, 3, 3, 3)).astype(bool),
        ("a/b.weight", INT4): random.integers(0, 2, (16, 3, 3, 3)).astype(bool),
        ("scalar", FP8): np.array(True),
    }
    save_roundings(roundings, tmp_path / "r.npz")
    loaded = roundings_from_file(tmp_path / "r.npz")
    assert loaded.keys() == roundings.keys()
    assert all(np.array_equal(loaded[key], up) and loaded[key].shape == up.shape for key, up in roundings.items())
    large = {("w", INT8): np.ones((1000, 1000), bool)}
    save_roundings(large, tmp_path / "large.npz")
    assert (tmp_path / "large.npz").stat().st_size < 130_000


def test_without_torch_one_sentence_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    network = prepared("mlp")
    with pytest.raises(MissingDependencyError, match=r"learned rounding.*pip install 'torch>="):
        learned(network, INT8, sample_input(NETWORKS["mlp"](), 8)["input"], 1)
