"""Layers for which TensorRT has no 8-bit kernel, or none that is faster.

The weight axes follow from the arithmetic: a scale can leave the sum only if it is constant along it. Shape limits
are Model Optimizer's (`trt_mpq.groups.exclusions`), warnings because a device may know better.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from trt_mpq.groups.anchors import Anchor, anchor_of
from trt_mpq.groups.exclusions import first_layers, modelopt_exclusions
from trt_mpq.lint.graph import QdqGraph, Step, dims, name_of
from trt_mpq.lint.values import Hit
from trt_mpq.types import Precision

_PRECISIONS = {ir.DataType.INT8: Precision.INT8, ir.DataType.FLOAT8E4M3FN: Precision.FP8}


def mixed_formats(graph: QdqGraph) -> Iterator[Hit]:
    """Whether INT8 and FP8 may share one network is not documented; one source says no."""
    by_codes = {
        codes: [step for step in graph.quantizers if step.codes is codes]
        for codes in (ir.DataType.INT8, ir.DataType.FLOAT8E4M3FN)
    }
    if all(by_codes.values()):
        counts = " and ".join(f"{len(steps)} {_PRECISIONS[codes].name}" for codes, steps in by_codes.items())
        yield Hit(
            (),
            (),
            f"{counts} quantizers share the network, and whether TensorRT builds both into one network is "
            "unknown: use one format",
        )


def weight_axes(graph: QdqGraph) -> Iterator[Hit]:
    """Per-channel scales of a weight go along its output channels."""
    for node in graph.weighted():
        weight = node.inputs[1]
        step = graph.dequantized(weight)
        if weight is None or step is None or step.blocked or not graph.is_constant(weight):
            continue
        scale = dims(step.scale)
        axis, wanted = _axis_at(step, weight), _output_axis(node, weight)
        if scale is None or int(np.prod(scale)) == 1 or axis is None or wanted is None or axis == wanted:
            continue
        yield Hit(
            (name_of(node), name_of(step.node)),
            (str(graph.origin(step).name),),
            f"its weight has a scale per index of axis {axis}, output channels are axis {wanted} of a "
            f"{node.op_type}: quantize the weight along its output channels",
        )


def _output_axis(node: ir.Node, weight: ir.Value) -> int | None:
    shape = dims(weight)
    if node.op_type == "Gemm":
        return 0 if node.attributes.get_int("transB", 0) else 1
    if node.op_type == "MatMul":
        return None if shape is None else len(shape) - 1
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


def small_layers(graph: QdqGraph) -> Iterator[Hit]:
    """Matrix times vector, few or misaligned channels, large FP8 kernels."""
    quantized = [node for node in graph.weighted() if graph.in_eight_bit(node) and graph.is_constant(node.inputs[1])]
    anchors = {node: anchor for node in graph.weighted() if (anchor := _anchor(node)) is not None}
    first = first_layers(graph.graph, anchors.values())
    for node in quantized:
        step = graph.dequantized(node.inputs[1])
        precision = None if step is None else _PRECISIONS.get(step.codes or ir.DataType.UNDEFINED)
        if node not in anchors or precision is None:
            continue
        reasons = modelopt_exclusions(anchors[node], first=node in first, batch_is_free=graph.batch_is_free)
        if reason := reasons.get(precision):
            yield Hit(
                (name_of(node),),
                (),
                f"Model Optimizer leaves it out of {precision.name} ({reason}): measure it, or leave it in FP16",
            )


def _anchor(node: ir.Node) -> Anchor | None:
    """The weighted operator as grouping sees it, with its weight as if it were stored in FP32."""
    data, weight = node.inputs[:2]
    shapes = [dims(value) for value in (data, weight, node.outputs[0])]
    if data is None or weight is None or None in shapes or len(shapes[1] or ()) < 2:
        return None
    stand_in = ir.tensor(np.empty(shapes[1] or (), np.float32))
    constant = ir.Value(
        name=weight.name, shape=weight.shape, type=ir.TensorType(ir.DataType.FLOAT), const_value=stand_in
    )
    twin = ir.node(node.op_type, [data, constant], node.attributes)
    twin.outputs[0].shape = node.outputs[0].shape
    anchor = anchor_of(twin)
    return None if anchor is None else replace(anchor, node=node)
