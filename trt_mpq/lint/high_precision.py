"""What compiles, and runs layers in high precision that the file quantizes.

Sources: the programs that TensorRT for RTX compiles from the graphs of `bench/results/lint-truth.md`; TensorRT
developer guide, "Explicit quantization". Scales that do not leave the sum follow from the arithmetic: a scale can leave
it only if it is constant along it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from trt_mpq.graph.operators import PRODUCTS
from trt_mpq.lint.findings import Check, Hit
from trt_mpq.lint.graph import OPERANDS, WEIGHT_ONLY, QdqGraph, Step, dims, name_of, names_of

_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
_FP8_TAPS = 32
"""Most taps of a convolution kernel that FP8 kernels are written for (Model Optimizer, `int8.py` and `fp8.py`)."""


def _per_channel_activations(graph: QdqGraph) -> Iterator[Hit]:
    """Activations have one scale; a scale per channel cannot leave the sum over channels."""
    for step in graph.quantizers:
        scale = dims(step.scale)
        if scale is not None and int(np.prod(scale)) > 1:
            why = (
                "activations have one scale, with more the readers run in high precision: give this one a single scale"
            )
            yield Hit.on(step, why)


def _scale_vectors(graph: QdqGraph) -> Iterator[Hit]:
    """A scale of shape [1] is one per channel to the parser; convolutions take scalars, matrix products take both."""
    for step in graph.quantizers:
        if dims(step.scale) != (1,):
            continue
        readers = [node for pair in graph.dequantizers_of(step) for node, _ in graph.readers(pair.result)]
        if convolutions := [node for node in readers if node.op_type in _CONVOLUTIONS]:
            yield Hit(
                tuple(map(name_of, (step.node, *convolutions))),
                (str(step.source.name),),
                "its scale has shape [1], which TensorRT takes for one per channel, so that convolutions run in high "
                "precision: store the scale as a scalar",
            )


def _weight_axes(graph: QdqGraph) -> Iterator[Hit]:
    """Per-channel scales of a weight go along its output channels."""
    for node in graph.weighted():
        _, weight = graph.operands(node)
        step = graph.dequantized(weight)
        if weight is None or step is None or step.blocked or not graph.is_constant(weight):
            continue
        scale = dims(step.scale)
        axis, wanted = _axis_at(step, weight), _output_axis(node, weight, graph.weight_index(node))
        if scale is None or int(np.prod(scale)) == 1 or axis is None or wanted is None or axis == wanted:
            continue
        yield Hit(
            (name_of(node), name_of(step.node)),
            (str(graph.origin(step).name),),
            f"its weight has a scale per index of axis {axis}, output channels are axis {wanted} of a "
            f"{node.op_type}{_side(graph, node)}, so it runs in high precision: quantize the weight along its output "
            "channels",
        )


def _side(graph: QdqGraph, node: ir.Node) -> str:
    return "" if graph.weight_index(node) else " with its weight on the left"


def _output_axis(node: ir.Node, weight: ir.Value, index: int) -> int | None:
    shape = dims(weight)
    if node.op_type == "Gemm":
        return index ^ node.attributes.get_int(("transA", "transB")[index], 0)
    if node.op_type == "MatMul":
        return None if shape is None else len(shape) - 2 + index
    return 0 if node.op_type == "Conv" else 1


def _axis_at(step: Step, weight: ir.Value) -> int | None:
    """Where the axis of `step` lies in `weight`, which Transposes may have turned; None if it cannot be followed."""
    turns = []
    value = weight
    while value is not step.result:
        node = value.producer()
        if node is None or node.op_type != "Transpose" or node.inputs[0] is None:
            return None
        turns.append(node)
        value = node.inputs[0]
    axis = step.axis
    for node in reversed(turns):
        shape = dims(node.outputs[0])
        default = [] if shape is None else list(reversed(range(len(shape))))
        axis = list(node.attributes.get_ints("perm", default)).index(axis)
    return axis


def _half_quantized(graph: QdqGraph) -> Iterator[Hit]:
    """Recommendation 1: quantize all inputs of weighted operators.

    Weights alone are the exception: of 4 bit, and of whole channels in a matrix product, which widens them as it reads.
    """
    for node in graph.weighted():
        data, weight = map(graph.dequantized, graph.operands(node))
        if (data is None) == (weight is None) or (weight is not None and _widened_inside(graph, node, weight)):
            continue
        first = bool(graph.weight_index(node)) == (data is not None)
        which, other = ("first", "second") if first else ("second", "first")
        why = (
            f"its {which} input is quantized and its {other} is not, so it runs in high precision and the Q/DQ "
            "is overhead: quantize both or neither"
        )
        yield Hit((name_of(node),), names_of(node.inputs[:OPERANDS]), why)


def _widened_inside(graph: QdqGraph, node: ir.Node, weight: Step) -> bool:
    """Whether the kernel of `node` reads a weight as it is stored and widens it to what it multiplies."""
    channels = node.op_type in PRODUCTS and graph.is_constant(weight.source) and not weight.blocked
    return weight.codes in WEIGHT_ONLY or (channels and weight.codes is ir.DataType.INT8)


def _widening_casts(graph: QdqGraph) -> Iterator[Hit]:
    """A Cast to a wider type behind a DQ hides it from the product that reads it; to a narrower one it does no harm."""
    for node in graph.weighted():
        for value in node.inputs[:OPERANDS]:
            cast = None if value is None else graph.root(value).producer()
            step = None if cast is None or cast.op_type != "Cast" else graph.dequantizer_before(cast.inputs[0])
            if cast is not None and step is not None and _widens(cast):
                yield Hit(
                    tuple(map(name_of, (cast, step.node, node))),
                    names_of([value]),
                    f"a Cast to a wider type between the DequantizeLinear and {name_of(node)} makes that run in high "
                    "precision: give the DequantizeLinear a scale of the type wanted",
                )


def _widens(cast: ir.Node) -> bool:
    before, after = cast.inputs[0], cast.outputs[0]
    if before is None or before.dtype is None or after.dtype is None:
        return False
    return after.dtype.bitwidth > before.dtype.bitwidth


def _missing_kernels(graph: QdqGraph) -> Iterator[Hit]:
    """Transposed convolutions, and FP8 convolutions with many taps."""
    for node in graph.weighted():
        if why := missing_kernel(graph, node):
            yield Hit((name_of(node),), names_of(node.inputs[:OPERANDS]), why)


def missing_kernel(graph: QdqGraph, node: ir.Node) -> str | None:
    """Why there is no 8-bit kernel for a weighted operator that the file quantizes; None if there is one."""
    data = graph.dequantized(node.inputs[0])
    if data is None or not graph.in_eight_bit(node) or node.op_type not in _CONVOLUTIONS:
        return None
    taps = math.prod((dims(node.inputs[1]) or ())[2:])
    if data.codes is not ir.DataType.FLOAT8E4M3FN:
        only = "only TensorRT 8.6 to 11 have an INT8 kernel for ConvTranspose, TensorRT for RTX has none: measure it"
        return only if node.op_type == "ConvTranspose" else None
    if node.op_type == "ConvTranspose":
        return "there is no FP8 kernel for ConvTranspose: quantize it to INT8 or not at all"
    if taps > _FP8_TAPS:
        return f"there is no FP8 kernel for {taps} taps, {_FP8_TAPS} is the most: quantize it to INT8 or not at all"
    return None


def _concat_operands(graph: QdqGraph) -> Iterator[Hit]:
    """A product reads what was quantized with different scales and then joined: there is no one scale for it."""
    for node in graph.graph:
        if node.op_type == "Concat" and (products := graph.products_of_unlike(node)):
            yield Hit(
                tuple(map(name_of, (node, *products))),
                names_of([*node.inputs, *node.outputs]),
                f"it joins what is quantized with different scales, so that {name_of(products[0])} runs in high "
                "precision: give all of it one scale, or quantize what it writes",
            )


HIGH_PRECISION: Mapping[str, Check] = {
    "activation-per-channel": _per_channel_activations,
    "scale-vector": _scale_vectors,
    "weight-axis": _weight_axes,
    "half-quantized": _half_quantized,
    "widening-cast": _widening_casts,
    "no-kernel": _missing_kernels,
    "concat-operand": _concat_operands,
}
"""Rules whose breach leaves layers in high precision: id to what finds breaches."""
