"""Bias correction against a slow sequential reference: one layer after the other, each on the whole data."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.emit import examples as emission
from tests.fixtures_groups import group_called
from tests.networks import NETWORKS, Builder, mlp, residual_cnn
from tests.prepared import RUNTIME, Prepared, normal, prepare
from tests.sensitivity.examples import fix_batch
from trt_mpq.emit import Emitter, Refinements
from trt_mpq.graph.edit import node_by_name
from trt_mpq.refine.bias_correction import correct_biases
from trt_mpq.refine.files import corrections_from_file, save_corrections
from trt_mpq.runtime.base import Array, with_outputs
from trt_mpq.types import LayerGroup, Precision, PrecisionPlan, Ranges
from trt_mpq.types.observer import Progress

INT8, FP8, INT4 = Precision.INT8, Precision.FP8, Precision.INT4
Corrections = dict[tuple[str, Precision], np.ndarray]


@cache
def network(name: str) -> Prepared:
    return prepare(NETWORKS[name]())


@cache
def data(name: str, count: int = 24) -> Array:
    return normal(count, *(size for size in network(name).model.inputs[0].shape[1:] if isinstance(size, int)))


def corrected(
    prepared: Prepared,
    values: Array,
    plan: Precision | PrecisionPlan,
    chunk: int = 1000,
    progress: Progress | None = None,
) -> Corrections:
    """Corrected under `plan`, or the uniform one of a precision."""
    samples = prepared.samples(values)
    network = prepared.network(samples)
    wanted = network.grouping.uniform(plan) if isinstance(plan, Precision) else plan
    return dict(correct_biases(network, wanted, Refinements(), samples, RUNTIME, batch=chunk, progress=progress))


def plan_of(prepared: Prepared, precision: Precision) -> PrecisionPlan:
    return PrecisionPlan.uniform(prepared.grouping.groups, precision, Precision.FP16)


def channel_means(group: LayerGroup, values: Array) -> np.ndarray:
    axis = group.weight.channel_axis % values.ndim
    return values.mean(axis=tuple(a for a in range(values.ndim) if a != axis), dtype=np.float64)


def quantized_output(
    prepared: Prepared, ranges: Ranges, corrections: Corrections, plan: PrecisionPlan, group: LayerGroup, values: Array
) -> Array:
    """What the group's operator computes under `plan`, before FP16 rounds it."""
    graph = Emitter(prepared.graph, prepared.grouping, ranges, Refinements(corrections)).reference(plan)
    names = {output.name for node in graph.graph for output in node.outputs}
    name = next(n for n in (f"{group.weight.output}_exact", group.weight.output) if n in names)
    return RUNTIME.load(with_outputs(graph, [name])).run({prepared.model.inputs[0].name: values})[name]


def with_shifts(prepared: Prepared, graph: ir.Model, shifts: Corrections) -> onnx.ModelProto:
    """`graph` with a constant added to what each shifted group's biased operator writes."""
    proto = ir.to_proto(graph)
    for (name, _), shift in shifts.items():
        group = group_called(name, prepared.grouping)
        index, node = next((i, n) for i, n in enumerate(proto.graph.node) if n.name == biased_node(prepared, group))
        rank = 4 if group.op_type.startswith("Conv") else 2
        content = shift.reshape([-1 if axis == group.weight.channel_axis % rank else 1 for axis in range(rank)])
        proto.graph.initializer.append(onnx.numpy_helper.from_array(content, f"{name}_shift"))
        output = node.output[0]
        node.output[0] = f"{output}_unshifted"
        proto.graph.node.insert(index + 1, onnx.helper.make_node("Add", [node.output[0], f"{name}_shift"], [output]))
    return proto


def biased_node(prepared: Prepared, group: LayerGroup) -> str:
    readers = [n.name for n in prepared.graph.graph if group.weight.bias in [v.name for v in n.inputs if v is not None]]
    return readers[0] if group.op_type == "MatMul" else group.id


def sequential_reference(prepared: Prepared, values: Array, plan: PrecisionPlan) -> Corrections:
    """Nagel et al. 2019, section 4.2, empirical: correct a layer, then measure the next one behind it."""
    ranges = prepared.calibrated(prepared.samples(values))
    plain = Emitter(prepared.graph, prepared.grouping, ranges).reference(plan)
    done: Corrections = {}
    for group in (group for group in prepared.grouping.groups if plan[group.id].quantized):
        biased = biased_node(prepared, group)
        output = node_by_name(prepared.graph.graph, biased).outputs[0].name
        exact = prepared.tensors(values, output)[output]
        graph = ir.from_proto(with_shifts(prepared, plain, done))
        before_rounding = node_by_name(graph.graph, biased).outputs[0].name
        session = RUNTIME.load(with_outputs(graph, [before_rounding]))
        rounded = session.run({prepared.model.inputs[0].name: values})[before_rounding]
        shift = channel_means(group, exact) - channel_means(group, rounded)
        done[group.id, plan[group.id]] = shift.astype(np.float32)
    return done


@pytest.mark.parametrize("precision", [INT8, FP8, INT4])
@pytest.mark.parametrize("name", NETWORKS)
def test_one_pass_gives_what_the_sequential_reference_gives(name, precision):
    prepared, values = network(name), data(name)
    found, expected = (
        corrected(prepared, values, precision),
        sequential_reference(prepared, values, plan_of(prepared, precision)),
    )
    assert found.keys() == expected.keys()
    for key, shift in expected.items():
        np.testing.assert_allclose(found[key], shift, atol=2e-5, err_msg=str(key))


@pytest.mark.parametrize("name", NETWORKS)
def test_after_the_correction_every_channel_has_its_fp32_mean(name):
    prepared, values = network(name), data(name)
    ranges, plan = prepared.calibrated(prepared.samples(values)), plan_of(prepared, INT4)
    corrections = corrected(prepared, values, INT4)
    improved = []
    for group in prepared.grouping.groups:
        exact = channel_means(group, prepared.tensors(values, group.weight.output)[group.weight.output])
        before, after = (
            np.abs(channel_means(group, quantized_output(prepared, ranges, c, plan, group, values)) - exact)
            for c in ({}, corrections)
        )
        # The bias of a MatMul comes with the Add behind it, so its own output keeps the shift.
        if group.op_type != "MatMul":
            assert after.max() <= 0.02 * before.max() + 1e-3, group.id
            improved.append(before.max() > 0.05)
    assert any(improved), "int4 shifts the means of this network, so there is something to correct"


def test_a_strong_shift_is_taken_out_of_the_outputs():
    """Weights just above half a step all round up, so the uncorrected output is far off in every sample."""
    b = Builder(0)
    weight = np.full((16, 32), 1.55 / 7, np.float32)
    weight[:, 0] = 1.0
    b.node("Gemm", "fc", ["input", b.constant("fc.weight", weight), b.normal("fc.bias", (16,), 0.1)], transB=1)
    prepared = prepare(b.model((32,), (16,)))
    values = np.abs(normal(200, 32))
    ranges, plan = prepared.calibrated(prepared.samples(values)), plan_of(prepared, INT4)
    exact = prepared.tensors(values, "output")["output"]
    errors = [
        np.abs(quantized_output(prepared, ranges, c, plan, prepared.grouping.groups[0], values) - exact).mean()
        for c in ({}, corrected(prepared, values, INT4))
    ]
    assert errors[1] < 0.3 * errors[0]


@pytest.mark.parametrize("chunk", [1, 5, 7, 24])
def test_the_first_layer_does_not_depend_on_the_chunk(chunk):
    prepared, values = network("residual_cnn"), data("residual_cnn")
    whole, cut = corrected(prepared, values, INT4), corrected(prepared, values, INT4, chunk)
    first = (prepared.grouping.groups[0].id, INT4)
    np.testing.assert_allclose(cut[first], whole[first], atol=1e-5)
    for key, shift in whole.items():
        assert np.abs(cut[key] - shift).max() < 0.5 * max(np.abs(shift).max(), 0.05), key


def test_a_fixed_batch_dimension_is_filled():
    fixed, free = prepare(fix_batch(residual_cnn(), 8)), network("residual_cnn")
    values = data("residual_cnn", 20)
    found, expected = corrected(fixed, values, INT8), corrected(free, values, INT8, 8)
    assert found.keys() == expected.keys()
    for key, shift in expected.items():
        assert np.abs(found[key] - shift).max() < 0.3 * np.abs(shift).max() + 1e-3


def test_a_matmul_without_a_bias_is_left_alone():
    b = Builder(0)
    x = b.relu("fc1.relu", b.node("MatMul", "fc1", ["input", b.normal("fc1.weight", (32, 32), 0.2)]))
    b.gemm("fc2", x, (32, 16))
    prepared = prepare(b.model((32,), (16,)))
    assert set(corrected(prepared, normal(16, 32), INT4)) == {("fc2", INT4)}


def test_beta_of_a_gemm_is_allowed_for():
    b = Builder(0)
    weight, bias = b.normal("fc.weight", (32, 16), 0.2), b.normal("fc.bias", (16,), 0.1)
    b.node("Gemm", "fc", ["input", weight, bias], alpha=0.5, beta=4.0)
    assert_means_are_restored(prepare(b.model((32,), (16,))))


def test_a_bias_that_two_groups_share_is_corrected_for_each():
    b = Builder(0)
    weights = [b.normal(f"fc{i}.weight", (32, 32), 0.2) for i in (1, 2)]
    shared = b.normal("shared.bias", (1, 32), 0.1)
    x = b.relu("fc1.relu", b.node("Add", "fc1.add", [b.node("MatMul", "fc1", ["input", weights[0]]), shared]))
    b.node("Add", "fc2.add", [b.node("MatMul", "fc2", [x, weights[1]]), shared])
    prepared = prepare(b.model((32,), (32,)))
    assert [group.weight.bias for group in prepared.grouping.groups] == ["shared.bias"] * 2
    assert_means_are_restored(prepared)


def test_a_convolution_without_a_bias_gets_one():
    b = Builder(0)
    b.conv("last", b.relu("first.relu", b.conv("first", "input", (3, 16), bias=False)), (16, 16), bias=False)
    prepared = prepare(b.model((3, 8, 8), (16, 8, 8)))
    assert all(group.weight.bias is None for group in prepared.grouping.groups)
    assert_means_are_restored(prepared, normal(16, 3, 8, 8))


def test_a_constant_among_the_outputs_is_no_obstacle():
    """Anchors of a detector; the graph of both networks has its copy too."""
    proto = mlp()
    proto.graph.output.append(onnx.helper.make_tensor_value_info("anchors", onnx.TensorProto.FLOAT, [2]))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.float32([1, 2]), "anchors"))
    values = normal(8, 32)
    assert corrected(prepare(proto), values, INT8).keys() == corrected(prepare(mlp()), values, INT8).keys() != set()


def assert_means_are_restored(prepared: Prepared, values: Array | None = None) -> None:
    """The last group writes the output, whose mean per channel must be FP32's after correction."""
    values = normal(64, 32) if values is None else values
    ranges, plan = prepared.calibrated(prepared.samples(values)), plan_of(prepared, INT4)
    exact = prepared.tensors(values, "output")["output"]
    last = prepared.grouping.groups[-1]
    shifts = []
    for corrections in ({}, corrected(prepared, values, INT4)):
        graph = Emitter(prepared.graph, prepared.grouping, ranges, Refinements(corrections)).reference(plan)
        output = RUNTIME.load(graph).run({"input": values})["output"]
        shifts.append(np.abs(channel_means(last, output) - channel_means(last, exact)).max())
    assert shifts[1] < 0.05 * shifts[0] + 1e-3


def test_only_groups_in_the_precision_are_corrected():
    prepared = prepare(mlp(), "modelopt")
    excluded = prepare(residual_cnn(), "modelopt")
    assert {g for g, _ in corrected(prepared, normal(8, 32), FP8)} == {"fc1", "fc2", "fc3"}
    groups = corrected(excluded, normal(8, 3, 16, 16), INT8)
    assert {g for g, _ in groups} == {g.id for g in excluded.grouping.groups if g.allows(INT8)}
    assert len(groups) < len(excluded.grouping.groups)


@pytest.mark.parametrize("precision", [FP8, INT8])
def test_progress_ends_at_the_total(precision):
    steps: list[tuple[int, int]] = []
    found = corrected(network("mlp"), normal(10, 32), precision, 4, lambda done, total: steps.append((done, total)))
    assert {corrected for _, corrected in found} == {precision}
    assert steps == sorted(steps)
    assert steps[-1] == (10, 10)


def test_in_a_bf16_network_what_is_not_quantized_runs_in_bf16():
    """Biases are measured under the uniform plan that is delivered, whatever its high precision is."""
    plain, values = prepare(mlp()), normal(64, 32)
    first = replace(plain.grouping.groups[0], excluded={INT8: "for the test"})
    grouping = replace(plain.grouping, groups=(first, *plain.grouping.groups[1:]), top=Precision.BF16)
    prepared = replace(plain, grouping=grouping)
    plan = prepared.network(plain.samples(values)).grouping.uniform(INT8)
    assert plan.counts() == {Precision.BF16: 1, INT8: 2}
    found, in_half = (corrected(prepared, values, p) for p in (plan, plan.replace({first.id: Precision.FP16})))
    assert found.keys() == in_half.keys()
    assert any(not np.array_equal(found[key], shift) for key, shift in in_half.items()), "or the test shows nothing"
    for key, shift in sequential_reference(prepared, values, plan).items():
        np.testing.assert_allclose(found[key], shift, atol=2e-5, err_msg=str(key))


def test_the_given_graph_is_not_changed():
    prepared = network("residual_cnn")
    before = [(node.name, [v.name for v in node.outputs]) for node in prepared.graph.graph]
    corrected(prepared, data("residual_cnn"), INT8)
    assert [(node.name, [v.name for v in node.outputs]) for node in prepared.graph.graph] == before


def test_corrections_survive_the_disk(tmp_path):
    prepared = network("mlp")
    found = corrected(prepared, normal(8, 32), INT8) | {("block/with/slashes", FP8): np.ones(3, np.float32)}
    save_corrections(found, tmp_path / "c.npz")
    loaded = corrections_from_file(tmp_path / "c.npz")
    assert loaded.keys() == found.keys()
    assert all(np.array_equal(loaded[key], found[key]) for key in found)
    save_corrections({}, tmp_path / "empty.npz")
    assert corrections_from_file(tmp_path / "empty.npz") == {}


def test_every_product_of_a_transformer_is_corrected() -> None:
    """Joined products one by one; attention has nothing to correct, a product without a bias no place for it."""
    transformer, ids = emission.prepared("gpt"), emission.feeds("gpt", 24)["input"]
    found = corrected(transformer, ids, INT4)
    assert {anchor for anchor, _ in found} == {"qkv", "qkv.1", "qkv.2", "out", "up", "down"}
    transformer, ids = emission.prepared("bert"), emission.feeds("bert", 24)["input"]
    found = corrected(transformer, ids, INT4)
    weights = {weight.node: weight for group in transformer.grouping.groups for weight in group.weights}
    assert {anchor for anchor, _ in found} == weights.keys() == {"query", "key", "value", "out", "up", "down", "head"}
    ranges = transformer.calibrated(transformer.samples(ids))
    exact = transformer.tensors(ids, "output")["output"].mean(axis=0)
    shifts = []
    for corrections in ({}, found):
        graph = Emitter(transformer.graph, transformer.grouping, ranges, Refinements(corrections)).reference(
            plan_of(transformer, INT4)
        )
        shifts.append(float(np.abs(RUNTIME.load(graph).run({"input": ids})["output"].mean(axis=0) - exact).max()))
    assert shifts[1] < 0.02 < shifts[0]


def test_a_mixed_plan_is_corrected_where_it_is_quantized_in_the_precision_it_has_there() -> None:
    """Against one layer after the other, each measured under the mixed plan itself."""
    prepared, values = network("mlp"), data("mlp")
    plan = plan_of(prepared, INT4).replace({"fc2": Precision.FP16, "fc3": INT8})
    steps: list[tuple[int, int]] = []
    found = corrected(prepared, values, plan, 64, lambda done, total: steps.append((done, total)))
    assert set(found) == {("fc1", INT4), ("fc3", INT8)}
    assert steps[-1] == (len(values), len(values))
    for key, shift in sequential_reference(prepared, values, plan).items():
        np.testing.assert_allclose(found[key], shift, atol=2e-5, err_msg=str(key))
