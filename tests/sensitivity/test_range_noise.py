"""Which calibration method each tensor takes, on a network whose ranges are spoilt here and there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.networks import sample_input
from tests.sensitivity.examples import inputs_for, smooth_mlp
from trt_mpq.sensitivity import SensitivityInputs
from trt_mpq.sensitivity.lowering import Growth, Lowering
from trt_mpq.sensitivity.range_noise import method_by_tensor
from trt_mpq.types import Precision, Ranges, Tie

INT8 = Precision.INT8


@pytest.fixture(scope="module")
def inputs() -> SensitivityInputs:
    proto = smooth_mlp((6, 16, 16, 5))
    return inputs_for(proto, sample_input(proto, 24), np.zeros(24, np.int64))


@pytest.fixture
def lowered(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The groups that were lowered together, in order."""
    original, seen = Lowering.growth, []

    def growth(self: Lowering, ids: tuple[str, ...], *others: object) -> Growth:
        seen.append(ids)
        return original(self, ids, *others)

    monkeypatch.setattr(Lowering, "growth", growth)
    return seen


def spoilt(method: str, ranges: Ranges, *names: str) -> Ranges:
    """The ranges by a method that gives a tenth of the magnitude of some tensors."""
    own = {
        name: replace(tensor, amax={INT8: tensor.amax[INT8] / 10}) if name in names else tensor
        for name, tensor in ranges.tensors.items()
    }
    return replace(ranges, methods={INT8: method}, tensors=own)


def test_each_tensor_takes_the_method_that_does_not_spoil_it(
    inputs: SensitivityInputs, lowered: list[tuple[str, ...]]
) -> None:
    ranges = inputs.network.ranges
    first, second, third = ranges.tensors
    steps: list[tuple[int, int]] = []
    spoils = {"one": (first, third), "two": (second,), "three": (second,)}
    candidates = [spoilt(method, ranges, *names) for method, names in spoils.items()]
    found = method_by_tensor(inputs, INT8, candidates, lambda done, total: steps.append((done, total)))
    assert found == {first: "two", second: "one", third: "two"}
    assert lowered == [("fc1",), ("fc1",), ("fc2",), ("fc2",), ("fc3",), ("fc3",)], "methods alike are run once"
    assert steps == [(number, 6) for number in range(1, 7)]


def test_nothing_is_run_where_methods_agree(inputs: SensitivityInputs, lowered: list[tuple[str, ...]]) -> None:
    ranges = inputs.network.ranges
    first, second, third = ranges.tensors
    found = method_by_tensor(inputs, INT8, [spoilt("one", ranges, second), spoilt("two", ranges)])
    assert found == {first: "one", second: "two", third: "one"}
    assert lowered == [("fc2",), ("fc2",)]


def test_tensors_of_one_scale_take_one_method(inputs: SensitivityInputs, lowered: list[tuple[str, ...]]) -> None:
    ranges, network = inputs.network.ranges, inputs.network
    first, second, third = ranges.tensors
    tied = replace(network, grouping=replace(network.grouping, ties=(Tie("move", (first, second)),)))
    candidates = [spoilt("one", ranges, first, second), spoilt("two", ranges)]
    found = method_by_tensor(replace(inputs, network=tied), INT8, candidates)
    assert found == {first: "two", second: "two", third: "one"}
    assert lowered == [("fc1", "fc2")] * 2
