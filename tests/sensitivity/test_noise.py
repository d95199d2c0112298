"""Noise sensitivity against what theory says about a linear layer, and on a network with a known weak spot."""

from __future__ import annotations

from dataclasses import replace as changed

import numpy as np
import onnx
import pytest

from tests.networks import Builder, sample_input
from tests.sensitivity.examples import inputs_for, with_network
from trt_mpq.errors import SettingsError
from trt_mpq.evaluate.losses import LOSSES
from trt_mpq.sensitivity.noise import GaussianNoise
from trt_mpq.types import Precision, Ranges, TensorRange


def fragile_middle() -> onnx.ModelProto:
    """Four equal layers; the input of the third has one feature of size 500 that no weight uses."""
    b = Builder(0)
    x = "input"
    for i in range(1, 5):
        x = b.gemm(f"fc{i}", x, (16, 16), transposed=False)
        x = b.relu(f"fc{i}.relu", x) if i < 4 else x
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor).copy() for tensor in b.initializers}
    constants["fc2.bias"][0] = 500
    constants["fc3.weight"][0] = 0
    b.initializers = [onnx.numpy_helper.from_array(values, name) for name, values in constants.items()]
    return b.model((16,), (16,))


def test_the_fragile_layer_is_ranked_last() -> None:
    proto = fragile_middle()
    ranking = GaussianNoise().rank(inputs_for(proto, sample_input(proto, 32)))
    for precision, scores in ranking.scores.items():
        *others, last = ranking.order(precision)
        assert last == "fc3"
        assert scores[last] > 10 * max(scores[group] for group in others)


@pytest.mark.parametrize("per_channel", [True, False])
def test_growth_on_a_linear_layer_is_what_theory_says(per_channel: bool) -> None:
    b = Builder(3)
    b.node("MatMul", "fc", ["input", b.normal("fc.weight", (6, 4), 1.0)])
    proto = b.model((6,), (4,))
    x = sample_input(proto, 40)["input"]
    inputs = inputs_for(proto, {"input": x}, loss=LOSSES["mse"], candidates=(Precision.INT8,))
    growth = GaussianNoise(trials=60, per_channel=per_channel, block=2).rank(inputs).scores[Precision.INT8]["fc"]

    weight = onnx.numpy_helper.to_array(proto.graph.initializer[0])
    # With y = x w: E |(x + n)(w + e) - x w|^2 = |x e|^2 + |n w|^2 + |n e|^2, all means independent.
    spread = np.abs(weight).max(axis=0 if per_channel else None) * np.ones(4) / 127
    of_weight = np.sum(spread**2) * np.sum(x**2, axis=1)
    of_input = (np.abs(x).max() / 127) ** 2 * (np.sum(weight**2) + 6 * np.sum(spread**2))
    expected = np.mean((of_weight + of_input) / np.sum((x @ weight) ** 2, axis=1))
    assert growth == pytest.approx(expected, rel=0.08)


def test_amplitude_scales_the_standard_deviation() -> None:
    b = Builder(3)
    b.node("MatMul", "fc", ["input", b.normal("fc.weight", (6, 4), 1.0)])
    proto = b.model((6,), (4,))
    inputs = inputs_for(proto, sample_input(proto, 10), loss=LOSSES["mse"], candidates=(Precision.INT8,))
    small, large = (GaussianNoise(noise_amplitude=a).rank(inputs).scores[Precision.INT8]["fc"] for a in (0.1, 1.0))
    assert large == pytest.approx(100 * small, rel=0.02)


def test_a_pair_of_trials_cancels_the_first_order_term() -> None:
    proto = fragile_middle()
    inputs = inputs_for(proto, sample_input(proto, 16), candidates=(Precision.INT8,), batch=16)
    tiny = GaussianNoise(noise_amplitude=1e-3, trials=2)
    one = changed(tiny, trials=1)
    labelled = changed(inputs, loss=FirstOutput())
    assert abs(tiny.rank(labelled).scores[Precision.INT8]["fc1"]) < 0.02 * abs(
        one.rank(labelled).scores[Precision.INT8]["fc1"]
    )


class FirstOutput:
    """A linear loss: the first element of every output row."""

    name = "first"

    def per_sample(self, outputs: dict[str, np.ndarray], labels: object, reference: object) -> np.ndarray:
        return outputs["output"][:, 0].astype(np.float64)


def test_noise_belongs_to_samples_and_blocks_not_to_places_in_a_batch() -> None:
    proto = fragile_middle()
    inputs = inputs_for(proto, sample_input(proto, 21))
    by_one, *others = (GaussianNoise(block=6).rank(changed(inputs, batch=size)).scores for size in (1, 4, 100))
    for scores in others:
        for precision, expected in by_one.items():
            assert scores[precision] == pytest.approx(expected, rel=1e-3, abs=1e-9)


def test_cost_counts_baseline_and_every_trial() -> None:
    proto = fragile_middle()
    inputs = inputs_for(proto, sample_input(proto, 10), candidates=(Precision.INT8, Precision.INT4))
    shares = (1.0, 0.75, 0.5, 0.25)  # of four equal layers, from each of them on
    assert GaussianNoise(trials=3).rank(inputs).forward_passes == 10 * (2 + sum(shares) * 2 * 3)


@pytest.mark.parametrize(
    "settings", [{"trials": 0}, {"block": 0}, {"noise_amplitude": 0.0}, {"noise_amplitude": float("nan")}]
)
def test_impossible_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="above zero"):
        GaussianNoise(**settings)


def test_steps_are_those_of_the_formats() -> None:
    steps = {Precision.INT8: 1 / 127, Precision.INT4: 1 / 7, Precision.FP8: 1 / 16}
    assert {precision: precision.codes.step for precision in steps} == steps


def test_every_block_has_its_own_weight_noise() -> None:
    b = Builder(3)
    b.node("MatMul", "fc", ["input", b.normal("fc.weight", (6, 4), 1.0)])
    proto = b.model((6,), (4,))
    x = np.repeat(sample_input(proto, 1)["input"], 4, axis=0)
    inputs = inputs_for(proto, {"input": x}, loss=LOSSES["mse"], candidates=(Precision.INT8,))
    silent = with_network(inputs, ranges=Ranges({}, 4, {"input": TensorRange(0.0, 0.0)}))

    def score(block: int, samples: int) -> float:
        ranking = GaussianNoise(block=block).rank(changed(silent, sample_limit=samples))
        return ranking.scores[Precision.INT8]["fc"]

    assert score(block=4, samples=4) == pytest.approx(score(block=4, samples=1), rel=1e-3)
    assert score(block=1, samples=4) != pytest.approx(score(block=1, samples=1), rel=0.05)


def test_weights_alone_leave_activations_without_noise() -> None:
    b = Builder(3)
    b.node("MatMul", "fc", ["input", b.normal("fc.weight", (6, 4), 1.0)])
    proto = b.model((6,), (4,))
    given_ = inputs_for(proto, sample_input(proto, 8), loss=LOSSES["mse"], candidates=(Precision.INT8, Precision.W8A16))
    silent = with_network(given_, ranges=Ranges({}, 8, {"input": TensorRange(0.0, 0.0)}))
    loud, quiet = (GaussianNoise().rank(inputs).scores for inputs in (given_, silent))
    assert loud[Precision.W8A16]["fc"] == pytest.approx(quiet[Precision.INT8]["fc"], rel=1e-6)
    assert loud[Precision.INT8]["fc"] > loud[Precision.W8A16]["fc"]
