"""Perturbed copies disturb the group they name and nothing else."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.emit import examples as emission
from tests.networks import mlp, residual_cnn, sample_input
from tests.sensitivity.examples import inputs_for, one_group_per_layer
from trt_mpq.runtime.base import with_outputs
from trt_mpq.runtime.onnxruntime import OnnxRuntime
from trt_mpq.sensitivity.perturbation import SampleLoss, add_noise, apart, open_weights

RANDOM = np.random.default_rng(5)
WEIGHT = RANDOM.standard_normal((3, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def twins() -> ir.Model:
    """Two MatMuls that share both their input and their weight."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["left_out"], name="left"),
        helper.make_node("MatMul", ["x", "w"], ["right_out"], name="right"),
    ]
    outputs = [helper.make_tensor_value_info(f"{n}_out", TensorProto.FLOAT, ["n", 4]) for n in ("left", "right")]
    graph = helper.make_graph(
        nodes,
        "twins",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        outputs,
        [numpy_helper.from_array(WEIGHT, "w")],
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def test_noise_reaches_one_reader_of_a_shared_tensor_and_weight(twins: ir.Model) -> None:
    left, _ = one_group_per_layer(twins).groups
    x, noise = RANDOM.standard_normal((2, 5, 3)).astype(np.float32)
    noisy, weights, inputs = add_noise(twins, left)
    ((name, weight),) = weights.items()
    np.testing.assert_array_equal(weight, WEIGHT)
    assert inputs.keys() == {"x"}
    outputs = OnnxRuntime(1).load(noisy).run({"x": x, name: weight + 1, inputs["x"]: noise})
    np.testing.assert_allclose(outputs["left_out"], (x + noise) @ (weight + 1), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(outputs["right_out"], x @ WEIGHT, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("build", [mlp, residual_cnn])
def test_open_weights_fed_with_themselves_change_nothing(build: object) -> None:
    proto = build()
    model, feeds = ir.from_proto(proto), sample_input(proto, 3)
    groups = one_group_per_layer(model).groups
    before = OnnxRuntime(1).load(model).run(feeds)
    opened, weights = open_weights(model, groups)
    assert weights.keys() == {group.id for group in groups}
    fed = {name: weight for own in weights.values() for name, weight in own.items()}
    after = OnnxRuntime(1).load(opened).run(feeds | fed)
    np.testing.assert_allclose(after["output"], before["output"], rtol=1e-5, atol=1e-6)
    assert [value.name for value in model.graph.inputs] == ["input"]


@pytest.mark.parametrize("name", ["bert", "gpt", "vit", "residual_cnn", "inception", "crossroads"])
def test_groups_apart_compute_what_they_do_together(name: str) -> None:
    network, data = emission.prepared(name), emission.feeds(name, 3)
    groups, runtime = network.grouping.groups, OnnxRuntime(1)
    graph, inputs = apart(network.graph, groups)
    writes, reads = tuple(dict.fromkeys(tensor for group in groups for tensor in group.writes)), tuple(inputs)
    truth = runtime.load(with_outputs(network.graph, tuple(dict.fromkeys((*reads, *writes))))).run(data)
    alone = runtime.load(graph)
    found = alone.run(data | {inputs[tensor]: truth[tensor] for tensor in reads})
    assert tuple(found) == writes
    for tensor in writes:
        np.testing.assert_allclose(found[tensor], truth[tensor], rtol=1e-4, atol=1e-5)
    wrong = alone.run(
        data
        | {inputs[tensor]: 0 * truth[tensor] for tensor in reads[:1]}
        | {inputs[tensor]: truth[tensor] for tensor in reads[1:]}
    )
    changed = [tensor for tensor in writes if not np.array_equal(wrong[tensor], found[tensor])]
    assert 0 < len(changed) < len(writes), "only the readers of that tensor notice"


def test_elements_are_counted_per_sample() -> None:
    proto = residual_cnn()
    cases = list(SampleLoss(inputs_for(proto, sample_input(proto, 5), batch=4), block=16).cases)
    assert [case.chunk.batch.size for case in cases] == [4, 1]
    for case in cases:
        assert case.elements["input"] == 3 * 16 * 16
        assert case.elements["block1.relu2.out"] == 16 * 16 * 16
        assert case.elements["pool.out"] == 32
        assert list(case.reference) == ["output"]


def test_outputs_that_are_not_kept_are_computed_again() -> None:
    proto = mlp()
    inputs = inputs_for(proto, sample_input(proto, 5), batch=2)
    kept, recomputed = SampleLoss(inputs), SampleLoss(inputs, kept_bytes=1)
    for _ in range(2):
        for one, other in zip(kept.cases, recomputed.cases, strict=True):
            np.testing.assert_array_equal(one.reference["output"], other.reference["output"])
            assert one.loss == other.loss
    assert all(one is other for one, other in zip(kept.cases, kept.cases, strict=True))
    assert all(one is not other for one, other in zip(recomputed.cases, recomputed.cases, strict=True))
