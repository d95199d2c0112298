"""Placement as text. Goldens in golden/placement are rewritten by ``python -m tests.emit.test_describe DATA_FOLDER``.

They were read line by line against TensorRT's recommendations: both operands of every weighted op, the
residual operand of a skip Add, and nothing else.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from tests.emit.examples import ALL_NETWORKS, emitter, feeds, prepared, uniform
from tests.networks import Builder
from tests.prepared import prepare
from trt_mpq.emit import Emitter
from trt_mpq.emit.describe import describe_placement
from trt_mpq.types import Precision, PrecisionPlan, Ranges, TensorRange

GOLDEN = Path(__file__).parents[1] / "golden" / "placement"
MIXED = {"hub": Precision.FP8, "left": Precision.INT8, "right": Precision.FP8, "raw": Precision.FP32}


def int8(name: str) -> str:
    return describe_placement(emitter(name).strong(uniform(name, Precision.INT8)).graph)


def mixed() -> str:
    plan = uniform("crossroads", Precision.FP16).replace(MIXED)
    return describe_placement(emitter("crossroads").strong(plan).graph)


def resnet20(data: Path) -> str:
    network = prepare(onnx.load(data / "cifar10" / "resnet20.onnx"))
    tensors = {site.tensor for group in network.grouping.groups for site in group.inputs}
    ranges = Ranges({}, 1, {name: TensorRange(-4, 4, {Precision.INT8: 4.0}) for name in tensors})
    plan = PrecisionPlan.uniform(network.grouping.groups, Precision.INT8, Precision.FP16)
    return describe_placement(Emitter(network.graph, network.grouping, ranges).strong(plan).graph)


def bf16() -> str:
    network = prepared("residual_cnn")
    ranges = network.calibrated(network.samples(feeds("residual_cnn")["input"]))
    grouping = replace(network.grouping, top=Precision.BF16)
    return describe_placement(Emitter(network.graph, grouping, ranges).strong(grouping.uniform(Precision.INT8)).graph)


def golden(name: str) -> Path:
    return GOLDEN / f"{name}.txt"


@pytest.mark.parametrize("name", ALL_NETWORKS)
def test_int8_placement(name: str) -> None:
    assert int8(name) == golden(name).read_text()


def test_mixed_placement() -> None:
    assert mixed() == golden("crossroads_mixed").read_text()


def test_bf16_placement_differs_in_types_only() -> None:
    assert bf16() == golden("residual_cnn_bf16").read_text()
    assert bf16().replace("BFLOAT16", "FLOAT16").replace("_bf16", "_fp16") == golden("residual_cnn").read_text()


@pytest.mark.data
def test_resnet20_placement(data_dir: Path) -> None:
    assert resnet20(data_dir) == golden("resnet20").read_text()


def test_an_unquantized_graph_has_no_placement() -> None:
    assert describe_placement(emitter("mlp").strong(uniform("mlp", Precision.FP16)).graph) == ""


@pytest.mark.parametrize("own", [False, True])
def test_it_says_of_every_tensor_that_a_concat_joins_whose_scale_it_has(own: bool) -> None:
    """The skip connection is quantized where its pooled values are read; 12.7 is 2.54 times as large as 5."""
    b = Builder(0)
    skip = b.relu("stem.relu", b.conv("stem", "input", (16, 16)))
    low = b.relu("low", b.conv("halved", b.node("MaxPool", "halve", [skip], kernel_shape=[1, 1]), (16, 16)))
    b.conv("fuse", b.node("Concat", "cat", [skip, low], axis=1), (32, 16))
    network = prepare(b.model((16, 8, 8), (16, 8, 8)))
    amax = {"cat.out": 12.7, "halve.out": 5.0 if own else 12.7}
    tensors = {site.tensor: amax.get(site.tensor, 4.0) for group in network.grouping.groups for site in group.inputs}
    ranges = Ranges({}, 1, {name: TensorRange(-most, most, {Precision.INT8: most}) for name, most in tensors.items()})
    plan = network.grouping.uniform(Precision.INT8)
    text = describe_placement(Emitter(network.graph, network.grouping, ranges).strong(plan).graph)
    chosen = "a scale 2.54 times smaller, requantized" if own else "its one scale"
    assert [line for line in text.splitlines() if " joins " in line] == [f"cat joins stem.relu.out INT8 in {chosen}"]


if __name__ == "__main__":
    texts = {**{name: int8(name) for name in ALL_NETWORKS}, "crossroads_mixed": mixed(), "residual_cnn_bf16": bf16()}
    texts["resnet20"] = resnet20(Path(sys.argv[1]))
    for file, text in texts.items():
        golden(file).write_text(text)
