"""What NVIDIA's compiler makes of shapes that are left out of 8 bit: a compile for each rule of `groups.exclusions`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.observed import computed_in
from bench.program import program
from tests.compiler import NEEDS_RTX
from tests.contracts.test_compiler import outcome
from tests.networks import Builder
from tests.prepared import normal, prepare
from trt_mpq.emit import Emitter
from trt_mpq.groups import groups_from_model
from trt_mpq.latency.target import RTX_SM
from trt_mpq.types import Precision
from trt_mpq.types.engine import BuildStatus

FP16, FP8, INT8 = Precision.FP16, Precision.FP8, Precision.INT8
ADA, BLACKWELL = 89, 120


def few_channels(b: Builder) -> tuple[tuple[int, ...], tuple[int, ...]]:
    b.relu("relu", b.conv("layer", b.relu("before", "input"), (8, 16)))
    return (8, 16, 16), (16, 16, 16)


def misaligned(b: Builder) -> tuple[tuple[int, ...], tuple[int, ...]]:
    b.relu("relu", b.conv("layer", b.relu("before", "input"), (38, 61), kernel=1))
    return (38, 16, 16), (61, 16, 16)


def per_channel(b: Builder) -> tuple[tuple[int, ...], tuple[int, ...]]:
    weight = b.normal("layer.weight", (38, 1, 3, 3), 0.1)
    layer = b.node("Conv", "layer", [b.relu("before", "input"), weight], kernel_shape=[3, 3], pads=[1] * 4, group=38)
    b.relu("relu", layer)
    return (38, 16, 16), (38, 16, 16)


def many_taps(b: Builder) -> tuple[tuple[int, ...], tuple[int, ...]]:
    b.relu("relu", b.conv("layer", b.relu("before", "input"), (32, 32), kernel=7))
    return (32, 16, 16), (32, 16, 16)


def patches(b: Builder) -> tuple[tuple[int, ...], tuple[int, ...]]:
    weight = b.normal("layer.weight", (64, 3, 8, 8), 0.1)
    b.relu("relu", b.node("Conv", "layer", ["input", weight], kernel_shape=[8, 8], strides=[8, 8]))
    return (3, 32, 32), (64, 4, 4)


def grouped(b: Builder) -> tuple[tuple[int, ...], tuple[int, ...]]:
    weight = b.normal("layer.weight", (64, 16, 3, 3), 0.1)
    layer = b.node("Conv", "layer", [b.relu("before", "input"), weight], kernel_shape=[3, 3], pads=[1] * 4, group=4)
    b.relu("relu", layer)
    return (64, 16, 16), (64, 16, 16)


def transposed(b: Builder) -> tuple[tuple[int, ...], tuple[int, ...]]:
    b.relu("relu", b.conv_transpose("layer", b.relu("before", "input"), (32, 32)))
    return (32, 8, 8), (32, 16, 16)


def few_columns(b: Builder) -> tuple[tuple[int, ...], tuple[int, ...]]:
    b.relu("relu", b.linear("layer", b.relu("before", "input"), (13, 5)))
    return (32, 13), (32, 5)


def computed(b: Builder) -> tuple[tuple[int, ...], tuple[int, ...]]:
    left = b.relu("before", "input")
    right = b.node("Transpose", "turned", [b.node("Tanh", "other", [left])], perm=[0, 2, 1])
    b.relu("relu", b.node("MatMul", "layer", [left, right]))
    return (7, 13), (7, 7)


def short_sum(b: Builder) -> tuple[tuple[int, ...], tuple[int, ...]]:
    b.relu("relu", b.linear("layer", b.relu("before", "input"), (8, 64)))
    return (32, 8), (32, 64)


EVERY_RTX = tuple(RTX_SM)
NARROW = (few_channels, misaligned, per_channel, short_sum, few_columns, computed)
COMPILED: list[tuple[Callable[[Builder], tuple[tuple[int, ...], tuple[int, ...]]], Precision, int, Precision]] = [
    *((layer, INT8, capability, INT8) for layer in NARROW for capability in (80, 86, ADA, BLACKWELL)),
    *((layer, FP8, capability, FP8) for layer in NARROW for capability in (ADA, BLACKWELL)),
    (many_taps, FP8, ADA, FP16),
    (many_taps, FP8, BLACKWELL, FP16),
    (many_taps, INT8, ADA, INT8),
    (patches, FP8, ADA, FP8),
    (patches, FP8, BLACKWELL, FP8),
    (grouped, FP8, ADA, FP8),
    (grouped, FP8, BLACKWELL, FP8),
    (transposed, FP8, ADA, FP16),
    (transposed, FP8, BLACKWELL, FP16),
    *((transposed, INT8, capability, FP16) for capability in EVERY_RTX),
]
"""Network, format asked for, compute capability times ten, and format that the product is computed in."""


@NEEDS_RTX
@pytest.mark.parametrize(("layer", "asked", "capability", "expected"), COMPILED)
def test_the_compiler_computes_in(
    layer: Callable[[Builder], tuple[tuple[int, ...], tuple[int, ...]]],
    asked: Precision,
    capability: int,
    expected: Precision,
    tmp_path: Path,
) -> None:
    b = Builder(0)
    shapes = layer(b)
    prepared = prepare(b.model(*shapes))
    written = prepared.network(prepared.samples(normal(8, *shapes[0]))).emitter()
    built = outcome(written, prepared.grouping.uniform(asked), tmp_path, capability)
    assert (built.status, built.reason) == (BuildStatus.BUILT, "")
    products = [kernel for kernel in program((tmp_path / built.engine).read_bytes()) if kernel.product is not None]
    assert {found for kernel in products for found in computed_in(kernel)} == {expected}


@pytest.mark.parametrize(("layer", "asked", "capability", "expected"), COMPILED)
def test_what_compiles_to_16_bit_is_left_out_there(
    layer: Callable[[Builder], tuple[tuple[int, ...], tuple[int, ...]]],
    asked: Precision,
    capability: int,
    expected: Precision,
) -> None:
    b = Builder(0)
    shapes = layer(b)
    graph = prepare(b.model(*shapes)).graph
    (group,) = groups_from_model(graph, {"input": (1, *shapes[0])}, "modelopt", capability).groups
    assert (asked in group.excluded) == (expected is FP16)


@NEEDS_RTX
@pytest.mark.parametrize("capability", [ADA, BLACKWELL])
def test_patches_as_a_convolution_run_in_16_bit(capability: int, tmp_path: Path) -> None:
    """Why `emit.patches` writes them as a matrix product."""
    b = Builder(0)
    shapes = patches(b)
    prepared = prepare(b.model(*shapes))
    (group,) = prepared.grouping.groups
    as_it_is = replace(group, weights=(replace(group.weight, patches=()),))
    written = Emitter(
        prepared.graph,
        replace(prepared.grouping, groups=(as_it_is,)),
        prepared.calibrated(prepared.samples(normal(8, *shapes[0]))),
    )
    built = outcome(written, prepared.grouping.uniform(FP8), tmp_path, capability)
    products = [kernel for kernel in program((tmp_path / built.engine).read_bytes()) if kernel.product is not None]
    assert [found for kernel in products for found in computed_in(kernel)] == [FP16]


@NEEDS_RTX
@pytest.mark.parametrize(("asked", "kernels"), [(FP16, 1), (INT8, 2), (FP8, 2)])
def test_attention_with_narrow_heads_is_one_kernel_in_16_bit_alone(
    asked: Precision, kernels: int, tmp_path: Path
) -> None:
    b = Builder(0)
    heads, length, head = 2, 10, 12
    split = b.constant("split", np.array([0, length, heads, head]))
    order = {"q": [0, 2, 1, 3], "k": [0, 2, 3, 1], "v": [0, 2, 1, 3]}
    q, k, v = (
        b.node("Transpose", f"{name}.heads", [b.node("Reshape", f"{name}.split", [layer, split])], perm=perm)
        for name, perm in order.items()
        for layer in [b.linear(name, "input", (32, heads * head))]
    )
    scores = b.node("Mul", "scaled", [b.node("MatMul", "qk", [q, k]), b.constant("scale", np.float32(0.3))])
    b.node("MatMul", "pv", [b.node("Softmax", "softmax", [scores], axis=-1), v])
    prepared = prepare(b.model((length, 32), (heads, length, head)))
    emitter = prepared.network(prepared.samples(normal(8, length, 32))).emitter()
    built = outcome(emitter, prepared.grouping.uniform(asked), tmp_path, ADA)
    products = [k for k in program((tmp_path / built.engine).read_bytes()) if not {"qk", "pv"}.isdisjoint(k.nodes)]
    assert len([kernel for kernel in products if kernel.product is not None]) == kernels
