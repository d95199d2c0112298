"""Which groups TensorRT gains nothing from quantizing: Model Optimizer's rules, as priors.

Source: NVIDIA Model Optimizer 0.47, `modelopt/onnx/quantization` (graph_utils.py, fp8.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import onnx_ir as ir

from trt_mpq.groups.anchors import Anchor
from trt_mpq.groups.shapes import elements
from trt_mpq.types import Precision

SMALLEST_TILE = 16
"""Fewest channels, K or N that fill a tensor core tile."""
_ALIGNMENT = 8
_FP8_KERNEL_VOLUME = 32


def first_layers(graph: ir.Graph, anchors: Iterable[Anchor]) -> frozenset[ir.Node]:
    """Anchors without another anchor before them: they read the network input, perhaps preprocessed."""
    nodes = {anchor.node for anchor in anchors}
    behind: set[ir.Value] = set()
    first: set[ir.Node] = set()
    for node in graph:
        follows = any(value in behind for value in node.inputs if value is not None)
        if node in nodes and not follows:
            first.add(node)
        if node in nodes or follows:
            behind.update(node.outputs)
    return frozenset(first)


def modelopt_exclusions(anchor: Anchor, *, first: bool, batch_is_free: bool) -> dict[Precision, str]:
    """Precision to the reason why `anchor` should not run in it; empty if it may run in all.

    Args:
        anchor: The weighted operator.
        first: Whether it is a first layer, which may have few channels.
        batch_is_free: Whether the batch can grow, so that one row per sample is no GEMV.
    """
    if not anchor.kernel:
        reason = _matrix_reason(anchor, batch_is_free)
        return dict.fromkeys((Precision.FP8, Precision.INT8, Precision.INT4), reason) if reason else {}
    channels = _channels_reason(anchor)
    eight_bit_float = _fp8_reason(anchor) or channels
    integer = None if first else channels
    reasons = {Precision.FP8: eight_bit_float, Precision.INT8: integer, Precision.INT4: integer}
    return {precision: reason for precision, reason in reasons.items() if reason}


def _matrix_reason(anchor: Anchor, batch_is_free: bool) -> str | None:
    inputs, outputs = anchor.channels
    rows = elements(anchor.output) // outputs
    if outputs == 1 or (rows == 1 and not batch_is_free):
        return "matrix times vector, bound by memory"
    for name, size in (("K", inputs), ("N", outputs)):
        if size < SMALLEST_TILE:
            return f"{name} = {size} is below {SMALLEST_TILE}"
    return None


def _channels_reason(anchor: Anchor) -> str | None:
    if anchor.depthwise:
        return _misaligned("depthwise", anchor.channels[0])
    for name, size in zip(("input", "output"), anchor.channels, strict=True):
        if size < SMALLEST_TILE:
            return f"{size} {name} channels are fewer than {SMALLEST_TILE}"
        if reason := _misaligned(name, size):
            return reason
    return None


def _misaligned(name: str, channels: int) -> str | None:
    return f"{channels} {name} channels are not a multiple of {_ALIGNMENT}" if channels % _ALIGNMENT else None


def _fp8_reason(anchor: Anchor) -> str | None:
    if anchor.node.op_type == "ConvTranspose":
        return "no FP8 kernel for ConvTranspose"
    if math.prod(anchor.kernel) > _FP8_KERNEL_VOLUME:
        return f"kernel volume {math.prod(anchor.kernel)} is above {_FP8_KERNEL_VOLUME}"
    if min(anchor.channels) <= SMALLEST_TILE:
        return f"{min(anchor.channels)} channels are not more than {SMALLEST_TILE}"
    return None
