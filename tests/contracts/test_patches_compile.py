"""Patch embeddings in FP8 as NVIDIA's compiler makes them: products in FP8, no kernel more than convolutions have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.program import Kernel, program
from tests.compiler import NEEDS_RTX
from tests.contracts.test_compiler import outcome
from tests.networks import Builder
from tests.prepared import normal, prepare
from trt_mpq.emit import Emitter
from trt_mpq.types import Grouping, Precision

pytestmark = NEEDS_RTX

Shapes = tuple[tuple[int, ...], tuple[int, ...]]
WIDTH, STEP, SIDE = 64, 8, 4


def patches(b: Builder) -> str:
    weight, bias = b.normal("patch.weight", (WIDTH, 3, STEP, STEP), 0.1), b.normal("patch.bias", (WIDTH,), 0.1)
    return b.node("Conv", "patch", ["input", weight, bias], kernel_shape=[STEP] * 2, strides=[STEP] * 2)


def norm(b: Builder, name: str, x: str) -> str:
    ones, zeros = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)
    return b.node("LayerNormalization", name, [x, b.constant("ones", ones), b.constant("zeros", zeros)], axis=-1)


def transformer(b: Builder) -> Shapes:
    """Patches become tokens, with their places added."""
    flat = b.node("Reshape", "flat", [patches(b), b.constant("flat.shape", np.array([0, WIDTH, SIDE**2]))])
    tokens = b.node("Transpose", "tokens", [flat], perm=[0, 2, 1])
    x = b.node("Add", "places", [tokens, b.normal("places.weight", (1, SIDE**2, WIDTH), 0.1)])
    b.node("Add", "residual", [b.linear("layer", norm(b, "norm", x), (WIDTH, WIDTH)), x])
    return (3, SIDE * STEP, SIDE * STEP), (SIDE**2, WIDTH)


def convnet(b: Builder) -> Shapes:
    """Patches stay an image."""
    b.relu("relu2", b.conv("layer", b.relu("relu", patches(b)), (WIDTH, WIDTH)))
    return (3, SIDE * STEP, SIDE * STEP), (WIDTH, SIDE, SIDE)


def normalized(b: Builder) -> Shapes:
    """Patches stay an image, whose channels are normalized."""
    last = norm(b, "norm", b.node("Transpose", "last", [patches(b)], perm=[0, 2, 3, 1]))
    b.conv("layer", b.node("Transpose", "first", [last], perm=[0, 3, 1, 2]), (WIDTH, WIDTH))
    return (3, SIDE * STEP, SIDE * STEP), (WIDTH, SIDE, SIDE)


@pytest.mark.parametrize("capability", [89, 120])
@pytest.mark.parametrize("network", [transformer, convnet, normalized])
def test_patches_are_an_fp8_product_and_no_kernel_is_added(
    network: Callable[[Builder], Shapes], capability: int, tmp_path: Path
) -> None:
    b = Builder(0)
    shapes = network(b)
    prepared = prepare(b.model(*shapes))
    ranges = prepared.calibrated(prepared.samples(normal(8, *shapes[0])))
    own, convolved = (
        compiled(Emitter(prepared.graph, grouping, ranges), grouping, tmp_path, capability)
        for grouping in (prepared.grouping, without_patches(prepared.grouping))
    )
    assert operands(own) == {"fp8_e4m3"}
    assert operands(convolved) == {"half"}
    assert len(own) <= len(convolved)


def compiled(emitter: Emitter, grouping: Grouping, folder: Path, capability: int) -> tuple[Kernel, ...]:
    built = outcome(emitter, grouping.uniform(Precision.FP8), folder, capability)
    assert built.built, built.reason
    return program((folder / built.engine).read_bytes())


def operands(kernels: tuple[Kernel, ...]) -> set[str]:
    """Types of what the patch embedding multiplies."""
    return {
        kind for kernel in kernels if kernel.product is not None and "patch" in kernel.nodes for kind in kernel.operands
    }


def without_patches(grouping: Grouping) -> Grouping:
    return replace(
        grouping,
        groups=tuple(
            replace(group, weights=tuple(replace(weight, patches=()) for weight in group.weights))
            for group in grouping.groups
        ),
    )
