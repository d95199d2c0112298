"""The placement rules, proven on what the emitter writes: no errors, and no warning without a reason."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from math import prod
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.emit.examples import ALL_NETWORKS, emitter, prepared, uniform
from tests.networks import Builder
from tests.prepared import Prepared, prepare
from trt_mpq.emit import Emitter
from trt_mpq.lint import Finding, Severity, lint_graph
from trt_mpq.types import Grouping, Precision, PrecisionPlan, Ranges, TensorRange

FP32, FP16, BF16 = Precision.FP32, Precision.FP16, Precision.BF16
FP8, INT8 = Precision.FP8, Precision.INT8
networks = pytest.mark.parametrize("name", ALL_NETWORKS)
mixtures = settings(max_examples=6)


@cache
def limits(name: str) -> Grouping:
    """The groups with Model Optimizer's exclusions, which the emitted plans ignore on purpose."""
    return prepare(ALL_NETWORKS[name](), "modelopt").grouping


def complaints(graph: ir.Model) -> Iterator[Finding]:
    return (finding for finding in lint_graph(graph) if finding.severity is not Severity.NOTE)


def expected(grouping: Grouping, plan: PrecisionPlan) -> set[tuple[str, tuple[str, ...]]]:
    """Convolutions the plan runs in 8 bit that have no such kernel, or none in TensorRT for RTX."""
    eight_bit = [group for group in grouping.groups if plan[group.id] in (INT8, FP8)]
    transposed = {group.id for group in eight_bit if group.op_type == "ConvTranspose"}
    large = {g.id for g in eight_bit if plan[g.id] is FP8 and g.op_type == "Conv" and prod(g.weight.shape[2:]) > 32}
    return {("no-kernel", (name,)) for name in transposed | large}


@pytest.mark.parametrize(("amax", "times"), [(4.0, None), (1.0, 4)])
def test_a_scale_of_its_own_is_seen_behind_a_pooling(amax: float, times: float | None) -> None:
    """As in a U-Net, where only the way down quantizes the skip connection."""
    b = Builder(0)
    skip = b.relu("stem.relu", b.conv("stem", "input", (16, 16)))
    pooled = b.node("MaxPool", "halve", [skip], kernel_shape=[1, 1])
    low = b.relu("low.relu", b.conv("low", pooled, (16, 16)))
    b.conv("fuse", b.node("Concat", "cat", [skip, low], axis=1), (32, 16))
    network = prepare(b.model((16, 8, 8), (16, 8, 8)))
    read = {site.tensor for group in network.grouping.groups for site in group.inputs}
    most = {name: amax if name == "halve.out" else 4.0 for name in read}
    ranges = Ranges({}, 1, {name: TensorRange(-high, high, {INT8: high}) for name, high in most.items()})
    graph = Emitter(network.graph, network.grouping, ranges).strong(network.grouping.uniform(INT8))
    found = [one for one in lint_graph(graph) if one.rule.startswith("concat")]
    assert [(one.rule, one.nodes) for one in found] == ([("concat-own-scales", ("cat",))] if times else [])
    assert all(f"{times} times apart" in one.message for one in found)


@networks
@pytest.mark.parametrize(
    ("flavour", "precision"),
    [*(("strong", p) for p in (FP32, FP16, BF16, INT8, FP8)), *(("weak", p) for p in (FP32, FP16, INT8))],
)
def test_uniform_plans_break_no_rule(name: str, flavour: str, precision: Precision) -> None:
    plan = uniform(name, precision)
    graph = getattr(emitter(name), flavour)(plan)
    assert {(finding.rule, finding.nodes) for finding in complaints(graph)} == expected(limits(name), plan)


@networks
@mixtures
@given(data=st.data())
def test_mixed_plans_break_no_rule(name: str, data: st.DataObject) -> None:
    formats = data.draw(st.sampled_from([(INT8,), (BF16, FP8), (BF16, INT8, FP8)]))
    precisions = (FP32, FP16, *formats)
    ids = [group.id for group in prepared(name).grouping.groups]
    plan = PrecisionPlan.of({group: data.draw(st.sampled_from(precisions)) for group in ids})
    flavours = (
        [emitter(name).strong(plan)] if FP8 in plan.counts() else [emitter(name).strong(plan), emitter(name).weak(plan)]
    )
    for graph in flavours:
        assert {(finding.rule, finding.nodes) for finding in complaints(graph)} == expected(limits(name), plan)


@pytest.mark.parametrize("flavour", ["strong", "weak"])
def test_a_plan_within_the_limits_gives_no_warning(flavour: str) -> None:
    plan = PrecisionPlan.uniform(limits("inception").groups, INT8, FP16)
    assert plan.counts()[INT8] > 2
    assert list(complaints(getattr(emitter("inception"), flavour)(plan))) == []


def test_a_tensor_read_before_and_behind_a_max_pool_is_noted() -> None:
    (note,) = (
        f for f in lint_graph(emitter("shared_maxpool").strong(uniform("shared_maxpool", INT8))) if f.rule == "movable"
    )
    assert note.tensors == ("stem.relu.out",)
    assert note.severity is Severity.NOTE


def test_int4_activations_are_for_study_only() -> None:
    findings = lint_graph(emitter("mlp").strong(uniform("mlp", Precision.INT4)))
    assert [finding.rule for finding in findings] == ["activation-int4"] * 3


@pytest.mark.parametrize(
    ("change", "rule"),
    [("residual", "residual-high-precision"), ("weight", "half-quantized"), ("scale", "pair-mismatch")],
)
def test_a_damaged_placement_is_found(change: str, rule: str) -> None:
    """What an emitter that forgets something would write."""
    graph = emitter("residual_cnn").strong(uniform("residual_cnn", INT8))
    nodes = {node.name: node for node in graph.graph}
    if change == "residual":
        add = nodes["block1.add"]
        (index,) = [i for i, value in enumerate(add.inputs) if value.producer().op_type == "DequantizeLinear"]
        add.replace_input_with(index, add.inputs[index].producer().inputs[0].producer().inputs[0])
    elif change == "weight":
        conv = nodes["block1.conv1"]
        conv.replace_input_with(1, next(v for v in graph.graph.initializers.values() if v.name.endswith("bias_fp16")))
    else:
        first, second = (nodes[f"{name}_int8_dq"] for name in ("stem.relu.out", "block1.relu1.out"))
        first.replace_input_with(1, second.inputs[1])
    assert rule in {finding.rule for finding in lint_graph(graph)}


def network_of(path: Path) -> tuple[Prepared, Emitter]:
    network = prepare(onnx.load(path), "modelopt")
    tensors = {site.tensor for group in network.grouping.groups for site in group.inputs}
    amax = {INT8: 4.0, FP8: 4.0}
    return network, Emitter(
        network.graph, network.grouping, Ranges({}, 1, {name: TensorRange(-4, 4, amax) for name in tensors})
    )


@pytest.mark.data
@pytest.mark.parametrize("path", ["cifar10/resnet20.onnx", "imagenet/mobilenet_v1_075_224.onnx"])
def test_real_networks_break_no_rule(path: str, data_dir: Path) -> None:
    network, real = network_of(data_dir / path)
    for precision in (INT8, FP8):
        plan = PrecisionPlan.uniform(network.grouping.groups, precision, FP16)
        assert list(complaints(real.strong(plan))) == []
    assert list(complaints(real.weak(PrecisionPlan.uniform(network.grouping.groups, INT8, FP32)))) == []
