"""Which groups TensorRT gains nothing from quantizing: priors, until a device table says otherwise.

The rules are those of NVIDIA Model Optimizer 0.47, `modelopt/onnx/quantization` (graph_utils.py, fp8.py):
https://github.com/NVIDIA/Model-Optimizer. What NVIDIA's compiler makes of each (TensorRT for RTX 1.7.1, operands of the
compiled kernel; `tests/contracts/test_exclusions_compile.py` compiles them) decides for the compute capabilities that
it was asked for:

- Convolutions with few channels, or with a number that is no multiple of 8, and matrix products with few sums or
  columns run in INT8 and FP8, padded: there the latency model decides, which pads convolutions (`_NARROW_RUNS`).
- Attention with narrow heads or few keys is one kernel in FP16 and two products in 8 bit: excluded everywhere.
- FP8 convolutions with a kernel volume above 32, patch embeddings too, compile and run in FP16: excluded everywhere.
- FP8 ConvTranspose compiles and runs in FP16: excluded everywhere.
- Matrix times vector runs in 8 bit too: excluded as what gains nothing, not as what does not run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import onnx_ir as ir

from trt_mpq.groups.anchors import Anchor
from trt_mpq.groups.shapes import elements, shape_of
from trt_mpq.types import Precision

PLAIN = tuple(precision for precision in Precision if precision.spec.between_kernels)
"""Formats that every network is looked at for, asked about or not, so that its groups are the same."""
SMALLEST_TILE = 16
"""Fewest channels, K or N that fill a tensor core tile."""
_ALIGNMENT = 8
_FP8_KERNEL_VOLUME = 32
_BLOCKS_ON_THE_LEFT = "its weight is the first operand, where NVIDIA's compiler takes no blocks"
"""TensorRT for RTX 1.7.1 crashes on 4-bit weights on the left; with a scale per row they run, W8A16 too."""
_NARROW_RUNS = {True: frozenset({80, 86, 89, 120}), False: frozenset({89, 120})}
"""Compute capabilities, times ten, for which what fills no tile is compiled to INT8 kernels (True) and to FP8 ones."""


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


def modelopt_exclusions(
    anchor: Anchor,
    *,
    first: bool,
    batch_is_free: bool,
    capability: int | None = None,
    formats: Sequence[Precision] = PLAIN,
) -> dict[Precision, str]:
    """Precision to the reason why `anchor` should not run in it; empty if it may run in all.

    Weights alone may be quantized everywhere: what is bound by memory gains most from it.

    Args:
        anchor: The weighted operator.
        first: Whether it is a first layer, which may have few channels.
        batch_is_free: Whether the batch can grow, so that one row per sample is no GEMV.
        capability: Compute capability of the GPU, times ten; None if it is not known.
        formats: Precisions to ask about.
    """
    if not anchor.kernel:
        vector, small = _vector_reason(anchor, batch_is_free), _matrix_reason(anchor)
        return by_codes(formats, vector, vector) or narrow(formats, capability, small, small)
    channels, kernel = _channels_reason(anchor), _fp8_kernel_reason(anchor)
    few = narrow(formats, capability, _fp8_channels_reason(anchor) or channels, None if first else channels)
    return few | by_codes(formats, kernel, None)


def misfits(anchor: Anchor, formats: Iterable[Precision]) -> dict[Precision, str]:
    """Those of `formats` that `anchor` cannot run in on any GPU, with the reason."""
    operator, left = anchor.node.op_type, anchor.weight_index == 0
    turned = bool(anchor.node.attributes.get_int("transA", 0)) and not left
    if turned or (not anchor.kernel and anchor.weight_axis is None):
        operator = "a product of a transposed tensor or of stacked weights"
    blocked = {p: _BLOCKS_ON_THE_LEFT for p in formats if left and p.spec.weights and p.spec.weights.blocks}
    return _misfits(formats, operator, anchor.channels[0], len(shape_of(anchor.data))) | blocked


def misfits_of_products(formats: Iterable[Precision]) -> dict[Precision, str]:
    """Those of `formats` that two computed tensors cannot be multiplied in."""
    return _misfits(formats, "a product of two computed tensors", 0, 0)


def _misfits(formats: Iterable[Precision], operator: str, summed: int, axes: int) -> dict[Precision, str]:
    reasons = {precision: precision.spec.misfit(operator, summed, axes) for precision in formats}
    return {precision: reason for precision, reason in reasons.items() if reason}


def by_codes(formats: Iterable[Precision], floating: str | None, integer: str | None) -> dict[Precision, str]:
    """Those of `formats` that quantize what is read to the reason for their kind of codes, where there is one."""
    reading = (precision for precision in formats if precision.spec.activations is not None)
    reasons = {precision: integer if precision.codes.even else floating for precision in reading}
    return {precision: reason for precision, reason in reasons.items() if reason}


def narrow(
    formats: Iterable[Precision], capability: int | None, floating: str | None, integer: str | None
) -> dict[Precision, str]:
    """As `by_codes`, for what fills no tile: no reason where NVIDIA's compiler was seen to run it."""
    known = {even: capability in capabilities for even, capabilities in _NARROW_RUNS.items()}
    return by_codes(formats, None if known[False] else floating, None if known[True] else integer)


def _vector_reason(anchor: Anchor, batch_is_free: bool) -> str | None:
    outputs = anchor.channels[1]
    vectors = elements(anchor.output) // outputs
    alone = outputs == 1 or (vectors == 1 and not batch_is_free)
    return "matrix times vector, bound by memory" if alone else None


def _matrix_reason(anchor: Anchor) -> str | None:
    inputs, outputs = anchor.channels
    for name, size in (("K", inputs), ("M" if anchor.weight_index == 0 else "N", outputs)):
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


def _fp8_kernel_reason(anchor: Anchor) -> str | None:
    if anchor.node.op_type == "ConvTranspose":
        return "no FP8 kernel for ConvTranspose"
    if math.prod(anchor.kernel) > _FP8_KERNEL_VOLUME:
        return f"no FP8 kernel for a kernel volume of {math.prod(anchor.kernel)}, above {_FP8_KERNEL_VOLUME}"
    return None


def _fp8_channels_reason(anchor: Anchor) -> str | None:
    if min(anchor.channels) <= SMALLEST_TILE:
        return f"{min(anchor.channels)} channels are not more than {SMALLEST_TILE}"
    return None
