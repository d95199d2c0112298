"""A small network with traps in its names, and what the inspector says of engines built from it.

The files in `samples/` are made by hand in the form that TensorRT writes. 8.6 and 10 follow the layer graphs of resnet
in NVIDIA/TensorRT, tools/experimental/trt-engine-explorer/examples (keys, formats, tactics, Origin, Metadata with its
control characters), Myelin layers follow published trtexec layer dumps of 10.x, and 11 follows NVIDIA's page "Migrating
IEngineInspector Usage from TensorRT 10.x to 11.x" (I/O Tensors, Format and Datatype apart).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.fixtures_groups import make_group, make_grouping, make_loose
from trt_mpq.types import LayerGroup, Precision, PrecisionPlan

FP32, FP16, FP8, INT8 = Precision.FP32, Precision.FP16, Precision.FP8, Precision.INT8


def _group(name: str, index: int, reads: list[str], *followers: str) -> LayerGroup:
    return replace(make_group(name, reads, index=index), nodes=(name, *followers))


GROUPING = make_grouping(
    [
        _group("conv1", 0, ["x"], "relu1"),
        _group("conv10", 1, ["relu1.out", "relu1.out"], "add", "relu10"),
        _group("conv2", 2, ["relu10.out"]),
        _group("head", 3, ["pool.out"]),
    ],
    [make_loose("pool", ["conv2.out"], op_type="GlobalAveragePool")],
)
PLAN = PrecisionPlan.of({"conv1": INT8, "conv10": INT8, "conv2": FP16, "head": FP32})


def sample(name: str) -> str:
    """Text of the sample `name`."""
    return (Path(__file__).parent / "samples" / f"{name}.json").read_text(encoding="utf-8")
