"""NVIDIA's own parser and compiler on every graph that is emitted: all golden ones, for every GPU that has the formats.

One engine is compiled for all compute capabilities of a plan, so each has to take it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from tests.compiler import NEEDS_RTX, compiled
from tests.emit.examples import ALL_NETWORKS, emitter, feeds, prepared, uniform
from tests.prepared import prepare
from trt_mpq.emit import Emitter
from trt_mpq.latency.target import RTX_SM
from trt_mpq.model import save_graph
from trt_mpq.types import Precision, PrecisionPlan, Ranges, TensorRange
from trt_mpq.types.engine import BuildStatus, EngineBuild, ShapeRange

pytestmark = NEEDS_RTX
FP16, BF16, FP8, INT8 = Precision.FP16, Precision.BF16, Precision.FP8, Precision.INT8
EVERY = tuple(RTX_SM)
AMPERE, ADA = EVERY[1:], tuple(sm for sm in EVERY if sm >= 89)
BATCH, LENGTH = 4, 16


def outcome(written: Emitter, plan: PrecisionPlan, folder: Path, *capabilities: int) -> EngineBuild:
    """What becomes of the strongly typed graph of `plan`."""
    path = folder / "typed.onnx"
    save_graph(written.strong(plan), path)
    return compiled(path, *capabilities, shapes=shapes(path))


def shapes(path: Path) -> dict[str, ShapeRange]:
    """A batch and a length for every dimension that is dynamic."""
    ranges = {}
    for value in onnx.load(path, load_external_data=False).graph.input:
        declared = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        if 0 in declared:
            most = tuple(size or (LENGTH if axis else BATCH) for axis, size in enumerate(declared))
            ranges[value.name] = ShapeRange((1, *most[1:]), most, most)
    return ranges


def accepted(build: EngineBuild) -> bool:
    assert (build.status, build.reason) == (BuildStatus.BUILT, "")
    return True


@pytest.mark.parametrize("name", ALL_NETWORKS)
def test_int8_compiles_for_every_gpu(name: str, tmp_path: Path) -> None:
    assert accepted(outcome(emitter(name), uniform(name, INT8), tmp_path, *EVERY))


@pytest.mark.parametrize("name", ALL_NETWORKS)
def test_fp8_and_int8_in_turns_compile_where_the_gpu_has_both(name: str, tmp_path: Path) -> None:
    fp8, int8 = uniform(name, FP8), uniform(name, INT8).as_dict()
    mixed = fp8.replace({group: int8[group] for group in list(int8)[::2]})
    assert accepted(outcome(emitter(name), mixed, tmp_path, *ADA))


@pytest.mark.parametrize("name", ["residual_cnn", "bert"])
def test_fp8_is_refused_where_the_gpu_has_none(name: str, tmp_path: Path) -> None:
    refused = outcome(emitter(name), uniform(name, FP8), tmp_path, 86)
    assert refused.refused
    assert "fp8_e4m3" in refused.reason


@pytest.mark.parametrize("name", ["residual_cnn", "vit"])
def test_bf16_compiles_from_ampere_on(name: str, tmp_path: Path) -> None:
    network = prepared(name)
    ranges = network.calibrated(network.samples(next(iter(feeds(name).values()))))
    grouping = replace(network.grouping, top=BF16)
    assert accepted(outcome(Emitter(network.graph, grouping, ranges), grouping.uniform(INT8), tmp_path, *AMPERE))


def test_all_types_of_one_plan_compile_together(tmp_path: Path) -> None:
    mixed = uniform("crossroads", FP16).replace({"hub": FP8, "left": INT8, "right": FP8, "raw": Precision.FP32})
    assert accepted(outcome(emitter("crossroads"), mixed, tmp_path, *ADA))


@pytest.mark.data
@pytest.mark.parametrize("model", ["cifar10/resnet20", "imagenet/mobilenet_v1_075_224"])
@pytest.mark.parametrize(("precision", "capabilities"), [(INT8, EVERY), (FP8, ADA)])
def test_real_networks_compile(
    model: str, precision: Precision, capabilities: tuple[int, ...], data_dir: Path, tmp_path: Path
) -> None:
    network = prepare(onnx.load(data_dir / f"{model}.onnx"))
    tensors = {site.tensor for group in network.grouping.groups for site in group.inputs}
    ranges = Ranges({}, 1, {name: TensorRange(-4, 4, {precision: 4.0}) for name in tensors})
    plan = PrecisionPlan.uniform(network.grouping.groups, precision, FP16)
    assert accepted(outcome(Emitter(network.graph, network.grouping, ranges), plan, tmp_path, *capabilities))
