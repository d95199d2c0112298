"""Which convolutions are patch embeddings."""

from __future__ import annotations

from typing import Any

import onnx
import onnx_ir as ir
import pytest

from tests.networks import Builder
from tests.prepared import prepare
from trt_mpq.groups import groups_from_model
from trt_mpq.types import Precision

FP8 = Precision.FP8
TOO_LARGE = "no FP8 kernel for a kernel volume of 64, above 32"


def convolution(size: tuple[int, ...], kernel: tuple[int, ...], **attributes: Any) -> onnx.ModelProto:
    """One convolution of 32 channels to 32 with stride and kernel the same, unless attributes say otherwise."""
    b, given = Builder(0), {"strides": kernel, **attributes}
    group = given.get("group", 1)
    weight = b.normal("layer.weight", (32, 32 // group, *kernel), 0.1)
    b.node("Conv", "layer", ["input", weight], kernel_shape=kernel, **given)
    pads, dilations = given.get("pads", [0] * 2 * len(kernel)), given.get("dilations", [1] * len(kernel))
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    padded = [n + pads[i] + pads[i + len(kernel)] for i, n in enumerate(size)]
    result = [(n - r) // s + 1 for n, r, s in zip(padded, reach, given["strides"], strict=True)]
    return b.model((32, *size), (32, *result))


@pytest.mark.parametrize(
    ("size", "kernel", "grid"),
    [((64,), (16,), (4,)), ((32, 24), (8, 8), (4, 3)), ((8, 8, 4), (4, 4, 2), (2, 2, 2)), ((9, 4), (9, 4), (1, 1))],
)
def test_kernels_side_by_side_are_patches(
    size: tuple[int, ...], kernel: tuple[int, ...], grid: tuple[int, ...]
) -> None:
    (group,) = prepare(convolution(size, kernel)).grouping.groups
    assert group.weight.patches == grid


@pytest.mark.parametrize(
    ("size", "attributes"),
    [
        ((16, 16), {"strides": [4, 8]}),
        ((16, 16), {"strides": [16, 16]}),
        ((12, 16), {}),
        ((16, 16), {"group": 2}),
        ((16, 16), {"pads": [0, 0, 8, 0]}),
        ((30, 16), {"dilations": [2, 1]}),
    ],
)
def test_what_overlaps_or_leaves_a_rest_is_a_convolution(size: tuple[int, ...], attributes: dict[str, Any]) -> None:
    graph = prepare(convolution(size, (8, 8), **attributes)).graph
    (group,) = groups_from_model(graph, {"input": (1, 32, *size)}, "modelopt", 89).groups
    assert group.weight.patches == ()
    assert group.excluded[FP8] == TOO_LARGE


def test_single_values_are_no_patches() -> None:
    assert prepare(convolution((4, 4), (1, 1))).grouping.groups[0].weight.patches == ()


@pytest.mark.parametrize(("channels", "reason"), [(32, None), (8, "N = 8 is below 16")])
def test_a_patch_embedding_may_run_in_fp8_like_any_product(channels: int, reason: str | None) -> None:
    """Its three channels are no reason against it, where the compiler was not asked either: K is 192."""
    b = Builder(0)
    weight = b.normal("layer.weight", (channels, 3, 8, 8), 0.1)
    b.node("Conv", "layer", ["input", weight], kernel_shape=[8, 8], strides=[8, 8])
    graph = prepare(b.model((3, 16, 16), (channels, 2, 2))).graph
    (group,) = groups_from_model(graph, {"input": (1, 3, 16, 16)}, "modelopt", 90).groups
    assert group.excluded.get(FP8) == reason


def test_patches_of_images_of_any_size_stay_a_convolution() -> None:
    graph = prepare(convolution((16, 16), (8, 8))).graph
    graph.graph.inputs[0].shape = ir.Shape(["batch", 32, "height", "width"])
    (group,) = groups_from_model(graph, {"input": (1, 32, 16, 16)}, "modelopt", 89).groups
    assert group.weight.patches == ()
    assert group.excluded[FP8] == TOO_LARGE
