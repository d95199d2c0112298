"""Copies of a network that run from a kept place on compute what whole copies do, and always the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.evaluate.scorers import sentence_encoder
from tests.networks import NETWORKS, sample_input
from tests.sensitivity.examples import inputs_for, smooth_mlp, specs_of, with_network
from trt_mpq.dataset import samples_from_arrays
from trt_mpq.runtime.base import Arrays
from trt_mpq.sensitivity import SensitivityInputs
from trt_mpq.sensitivity.noise import GaussianNoise
from trt_mpq.sensitivity.prefix import Prefix, Rest
from trt_mpq.sensitivity.task_loss import TaskLoss
from trt_mpq.types import Precision, PrecisionPlan

INT4 = Precision.INT4
CASES: dict[str, Callable[[], tuple[onnx.ModelProto, Arrays]]] = {
    **{name: lambda make=make: (make(), sample_input(make(), 12)) for name, make in NETWORKS.items()},
    "sentences": lambda: (sentence_encoder(), words(12)),
}


def words(count: int) -> Arrays:
    """Sentences of up to nine words: a second input, which the network reads at its end."""
    random = np.random.default_rng(1)
    mask = (np.arange(12) < random.integers(1, 10, count)[:, None]).astype(np.int64)
    return {"ids": random.integers(1, 50, mask.shape) * mask, "mask": mask}


class Copies:
    """One copy of a network per group, with that group in INT4, run in two ways."""

    def __init__(self, inputs: SensitivityInputs, **limit: int) -> None:
        self.inputs, self.chunks = inputs, list(inputs.chunks())
        self._emitter = inputs.network.emitter()
        self._wide = PrecisionPlan.uniform(inputs.network.grouping.groups, Precision.FP32, Precision.FP32)
        self.prefix = Prefix(self.copy(), inputs.network.grouping.groups, inputs.runtime, self.chunks, **limit)

    def copy(self, *groups: str):
        return self._emitter.reference(self._wide.replace(dict.fromkeys(groups, INT4)))

    def whole(self, *groups: str) -> list[Arrays]:
        session = self.inputs.runtime.load(self.copy(*groups))
        return [chunk.run(session) for chunk in self.chunks]

    def loaded(self, *groups: str) -> Rest:
        return self.prefix.rest(groups, self.copy(*groups))

    def rest(self, *groups: str) -> tuple[float, list[Arrays]]:
        rest = self.loaded(*groups)
        return rest.share, [rest.run(number, chunk) for number, chunk in enumerate(self.chunks)]


def copies_of(name: str, **limit: int) -> Copies:
    proto, feeds = CASES[name]()
    return Copies(inputs_for(proto, feeds, batch=5), **limit)


@pytest.mark.parametrize("name", CASES)
def test_the_rest_computes_what_the_whole_does(name: str) -> None:
    copies = copies_of(name)
    shares = []
    for group in copies.inputs.groups:
        share, rest = copies.rest(group.id)
        for mine, whole in zip(rest, copies.whole(group.id), strict=True):
            assert mine.keys() == whole.keys()
            for output, value in whole.items():
                np.testing.assert_allclose(mine[output], value, rtol=1e-4, atol=1e-5)
        shares.append(share)
    assert shares[0] == 1.0
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 1.0


@pytest.mark.parametrize("name", ["residual_cnn", "inception", "sentences"])
def test_what_is_known_does_not_depend_on_who_asked_before(name: str) -> None:
    forward, backward = copies_of(name), copies_of(name)
    ids = [group.id for group in forward.inputs.groups]
    there = {group: forward.rest(group) for group in ids}
    back = {group: backward.rest(group) for group in reversed(ids)}
    for group in ids:
        assert there[group][0] == back[group][0]
        for one, other in zip(there[group][1], back[group][1], strict=True):
            assert {name: value.tobytes() for name, value in one.items()} == {
                name: value.tobytes() for name, value in other.items()
            }


def test_several_groups_run_from_the_first_of_them() -> None:
    copies = copies_of("mlp")
    first, second, third = (group.id for group in copies.inputs.groups)
    alone, _ = copies.rest(second)
    share, rest = copies.rest(third, second)
    assert share == alone < 1.0
    for mine, whole in zip(rest, copies.whole(second, third), strict=True):
        np.testing.assert_allclose(mine["output"], whole["output"], rtol=1e-4, atol=1e-5)
    assert copies.rest(first)[0] == 1.0


def test_values_that_are_too_many_are_not_kept() -> None:
    none = copies_of("residual_cnn", limit=0)
    assert {none.rest(group.id)[0] for group in none.inputs.groups} == {1.0}
    everything = copies_of("residual_cnn")
    sizes = []
    for group in everything.inputs.groups[1:]:
        kept = everything.loaded(group.id).kept
        sizes.append(sum(value.nbytes for values in kept for value in values.values()))
    some = copies_of("residual_cnn", limit=max(sizes) - 1)
    shares = [some.rest(group.id)[0] for group in some.inputs.groups]
    assert shares[-1] < 1.0
    assert shares != [everything.rest(group.id)[0] for group in everything.inputs.groups]
    last = some.inputs.groups[-1].id
    for mine, whole in zip(some.rest(last)[1], some.whole(last), strict=True):
        np.testing.assert_allclose(mine["output"], whole["output"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("metric", [TaskLoss(), GaussianNoise()], ids=lambda metric: metric.name)
def test_a_ranking_is_that_of_whole_copies(metric, monkeypatch: pytest.MonkeyPatch) -> None:
    proto = smooth_mlp((6, 16, 16, 16, 5))
    inputs = inputs_for(proto, sample_input(proto, 20))
    kept = metric.rank(inputs)
    for module in ("lowering", "noise"):
        monkeypatch.setattr(f"trt_mpq.sensitivity.{module}.Prefix", partial(Prefix, limit=0))
    whole = metric.rank(inputs)
    for precision, scores in whole.scores.items():
        assert kept.scores[precision] == pytest.approx(scores, rel=1e-3, abs=1e-6)
    assert kept.forward_passes < 0.75 * whole.forward_passes


def test_a_value_that_is_an_output_already_is_passed_on() -> None:
    proto, feeds = CASES["mlp"]()
    inner = next(node.output[0] for node in proto.graph.node if node.op_type == "Relu")
    proto.graph.output.append(onnx.helper.make_tensor_value_info(inner, onnx.TensorProto.FLOAT, None))
    copies = Copies(inputs_for(proto, feeds, batch=5))
    last = copies.inputs.groups[-1].id
    share, rest = copies.rest(last)
    assert share < 1.0
    for mine, whole in zip(rest, copies.whole(last), strict=True):
        assert list(mine) == list(whole)
        np.testing.assert_allclose(mine[inner], whole[inner], rtol=1e-5)


def test_a_fixed_batch_is_filled_and_cut_as_for_the_whole() -> None:
    proto, feeds = CASES["residual_cnn"]()
    free = inputs_for(proto, feeds)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 8
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto))
    samples = samples_from_arrays(feeds, specs_of(model), None)
    copies = Copies(replace(with_network(free, graph=model), samples=samples))
    last = copies.inputs.groups[-1].id
    for mine, whole in zip(copies.rest(last)[1], copies.whole(last), strict=True):
        assert mine["output"].shape == whole["output"].shape
        np.testing.assert_allclose(mine["output"], whole["output"], rtol=1e-4, atol=1e-5)
