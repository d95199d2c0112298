"""Which groups TensorRT gains nothing from quantizing: priors, until a device table says otherwise.

The rules are those of NVIDIA Model Optimizer 0.47 and of TensorRT's release notes; `source_of` names which says what.
What NVIDIA's compiler makes of each (TensorRT for RTX 1.7.1, operands of the compiled kernel;
`tests/contracts/test_exclusions_compile.py` compiles them) decides for the compute capabilities that it was asked for:

- Convolutions with few channels, or with a number that is no multiple of 8, and matrix products with few sums or
  columns run in INT8 and FP8, padded: there the latency model decides, which pads convolutions (`_NARROW_RUNS`).
- Attention with narrow heads or few keys is one kernel in FP16 and two products in 8 bit: excluded everywhere.
- FP8 convolutions with a kernel volume above 32 compile and run in FP16: excluded everywhere. Patch embeddings of known
  size are none of them, since they are written as the matrix products that they are (`emit.patches`).
- Grouped FP8 convolutions run in FP8, though release notes of TensorRT 10 say that it has no optimized kernel for them:
  excluded where the compiler was not asked.
- FP8 ConvTranspose compiles and runs in FP16: excluded everywhere. In INT8 TensorRT 8 has a kernel for it
  (https://github.com/NVIDIA/TensorRT/issues/1699), Model Optimizer quantizes it for later ones, and TensorRT for RTX
  has none: excluded where that serves the GPU.
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
_BLOCKS_ON_THE_LEFT = "its weight is the first operand, where NVIDIA's compiler takes no blocks"
"""TensorRT for RTX 1.7.1 crashes on 4-bit weights on the left; with a scale per row they run, W8A16 too."""
_NARROW_RUNS = {True: frozenset({80, 86, 89, 120}), False: frozenset({89, 120})}
"""Compute capabilities, times ten, for which what fills no tile is compiled to INT8 kernels (True) and to FP8 ones."""
_DECONVOLVES_WIDE = frozenset({75, 80, 86, 89, 120, 121})
"""Compute capabilities, times ten, for which INT8 ConvTranspose is compiled to kernels of 16 bit."""

_MODEL_OPTIMIZER = "NVIDIA Model Optimizer 0.47, https://github.com/NVIDIA/Model-Optimizer"
_COMPILED = "TensorRT for RTX 1.7, which compiles it to kernels of 16 bit"
_RELEASE_NOTES = (
    "limitations in the release notes of TensorRT 10, "
    "https://docs.nvidia.com/deeplearning/tensorrt/10.12.0/getting-started/release-notes.html"
)
_SOURCES = {
    "bound by memory": _MODEL_OPTIMIZER,
    "is below": _MODEL_OPTIMIZER,
    "is above 512": _MODEL_OPTIMIZER,
    "channels are": _MODEL_OPTIMIZER,
    "for a kernel volume": f"{_RELEASE_NOTES}; {_COMPILED}",
    "for grouped convolutions": _RELEASE_NOTES,
    "kernel for ConvTranspose": _COMPILED,
}
"""Words of a reason to where the rule is from."""


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
    patches: bool = False,
    capability: int | None = None,
    formats: Sequence[Precision] = PLAIN,
) -> dict[Precision, str]:
    """Precision to the reason why `anchor` should not run in it; empty if it may run in all.

    Weights alone may be quantized everywhere: what is bound by memory gains most from it.

    Args:
        anchor: The weighted operator.
        first: Whether it is a first layer, which may have few channels.
        batch_is_free: Whether the batch can grow, so that one row per sample is no GEMV.
        patches: Whether it is a patch embedding, see `patches.patch_grids`.
        capability: Compute capability, times ten, that TensorRT for RTX may build for; None where another builds.
        formats: Precisions to ask about.
    """
    if not anchor.kernel:
        vector, small = _vector_reason(anchor, batch_is_free), _matrix_reason(anchor)
        return by_codes(formats, vector, vector) or narrow(formats, capability, small, small)
    channels = _channels_reason(anchor)
    floating = _fp8_channels_reason(anchor) or _grouped_reason(anchor) or channels
    if patches and not Precision.FP8.spec.convolves(math.prod(anchor.kernel)):
        floating = _matrix_reason(anchor)
    few = narrow(formats, capability, floating, None if first else channels)
    return few | ({} if patches else _no_kernel_reasons(anchor, formats, capability))


def source_of(reason: str) -> str | None:
    """Where the rule is from that gives `reason`; None for what the model itself forbids."""
    return next((source for words, source in _SOURCES.items() if words in reason), None)


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
    summed = inputs * math.prod(anchor.kernel)
    for name, size in (("K", summed), ("M" if anchor.weight_index == 0 else "N", outputs)):
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


def _no_kernel_reasons(anchor: Anchor, formats: Iterable[Precision], capability: int | None) -> dict[Precision, str]:
    """Reasons of the formats that there is no convolution in, whatever its channels."""
    if anchor.node.op_type == "ConvTranspose":
        integer = "no INT8 kernel for ConvTranspose" if capability in _DECONVOLVES_WIDE else None
        return by_codes(formats, "no FP8 kernel for ConvTranspose", integer)
    volume = math.prod(anchor.kernel)
    return {
        precision: f"no {precision.name} kernel for a kernel volume of {volume}, above {precision.spec.taps}"
        for precision in formats
        if not precision.spec.convolves(volume)
    }


def _grouped_reason(anchor: Anchor) -> str | None:
    groups = anchor.node.attributes.get_int("group", 1)
    return "no optimized FP8 kernel for grouped convolutions" if groups > 1 else None


def _fp8_channels_reason(anchor: Anchor) -> str | None:
    if min(anchor.channels) <= SMALLEST_TILE:
        return f"{min(anchor.channels)} channels are not more than {SMALLEST_TILE}"
    return None
