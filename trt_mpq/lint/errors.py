"""What TensorRT refuses or computes differently from what the file says.

Sources: TensorRT developer guide, "Quantized types" and "Explicit quantization"; the checks of the ONNX parser
(onnx-tensorrt, QuantizeLinear and DequantizeLinear importer). The weight axes follow from the arithmetic: a scale can
leave the sum only if it is constant along it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from trt_mpq.graph.edit import constant_array
from trt_mpq.graph.operators import DEQUANTIZE, INTEGER, WEIGHTED
from trt_mpq.graph.opset import WEAK_OPSET
from trt_mpq.lint.findings import Check, Hit
from trt_mpq.lint.graph import TENSORRT_CODES, QdqGraph, Step, dims, name_of, names_of

_SAME_TYPES = WEIGHTED | {"Add", "Sub", "Mul", "Div", "Concat"}
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_FP8_OPSET = 19
_PER_CHANNEL_OPSET = 13
_TYPED_OPSET = 19
"""From here on ONNX wants the scale in the type of the tensor; before, TensorRT's parser casts it."""


def _foreign_operators(graph: QdqGraph) -> Iterator[Hit]:
    """Integer operators of ONNX and ONNX Runtime, which the parser has no importer for."""
    for node in graph.graph:
        if node.op_type in INTEGER or (
            node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.domain == "com.microsoft"
        ):
            what = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            yield Hit(
                (name_of(node),),
                (),
                f"TensorRT does not import {what}: export with QuantizeLinear and DequantizeLinear (the QDQ format)",
            )


def _code_types(graph: QdqGraph) -> Iterator[Hit]:
    """Types other than INT8, FP8 E4M3, INT4 and FP4. A Q without zero point and type writes UINT8 (ONNX)."""
    for step in graph.parameters:
        if step.codes in TENSORRT_CODES or step.codes is None:
            continue
        if step.codes is ir.DataType.INT32:
            advice = "leave biases in floating point"
        elif step.zero is None and step.quantizes:
            advice = "give it an INT8 zero point of 0, without one ONNX means UINT8"
        else:
            advice = "quantize symmetrically to INT8 with zero point 0"
        yield Hit.on(step, f"TensorRT has no {step.codes.name} quantization: {advice}")


def _zero_points(graph: QdqGraph) -> Iterator[Hit]:
    """Quantization is symmetric only; the parser asserts zero points of 0 and as many of them as scales."""
    for step in graph.parameters:
        if step.zero is None or step.codes not in TENSORRT_CODES:
            continue
        if step.zero.const_value is None:
            yield Hit.on(step, "the zero point is computed, TensorRT wants a stored 0: store it as an initializer")
        elif np.any(constant_array(step.zero)):
            yield Hit.on(
                step,
                "the zero point is not 0, TensorRT knows symmetric quantization only: calibrate symmetrically",
            )


def _scale_values(graph: QdqGraph) -> Iterator[Hit]:
    """The parser asserts positive scales; NaN and infinity give no numbers at all."""
    for step in graph.parameters:
        if step.scale is None or not graph.is_constant(step.scale):
            yield Hit.on(
                step, "the scale is not stored in the model, TensorRT has no dynamic one: store it as an initializer"
            )
        elif step.steps is not None and not np.all(np.isfinite(step.steps) & (step.steps > 0)):
            worst = step.steps[~(np.isfinite(step.steps) & (step.steps > 0))].ravel()[0]
            yield Hit.on(step, f"a scale is {worst:g}, TensorRT wants all of them positive and finite: calibrate again")


def _scale_shapes(graph: QdqGraph) -> Iterator[Hit]:
    """One scale, or one per channel, and as many zero points (asserted by the parser)."""
    for step in graph.parameters:
        scale, zero, shape = dims(step.scale), dims(step.zero), dims(step.source)
        if scale is None or step.blocked:
            continue
        count = int(np.prod(scale))
        if len(scale) > 1 and count > 1:
            yield Hit.on(step, f"the scale has shape {list(scale)}: store one value, or one per channel")
        elif zero is not None and int(np.prod(zero)) != count:
            yield Hit.on(
                step, f"there are {count} scales and {int(np.prod(zero))} zero points: store one zero point per scale"
            )
        elif count > 1 and shape is not None and (step.axis >= len(shape) or shape[step.axis] != count):
            yield Hit.on(
                step,
                f"there are {count} scales for axis {step.axis} of shape {list(shape)}: store one per "
                "index of the axis",
            )


def _scale_types(graph: QdqGraph) -> Iterator[Hit]:
    """Strong typing: a Q reads tensor and scale of one type, a DQ writes the type of its scale."""
    for step in graph.steps:
        if not step.quantizes or step.scale is None or graph.opset < _TYPED_OPSET or step.node.domain:
            continue
        tensor, scale = step.source.dtype, step.scale.dtype
        if tensor is not None and scale is not None and tensor is not scale:
            yield Hit.on(
                step,
                f"the tensor is {tensor.name} and the scale {scale.name}: strong typing wants one type, cast the scale",
            )


def _operand_types(graph: QdqGraph) -> Iterator[Hit]:
    """Strong typing inserts no casts: operands of different float types are refused."""
    for node in graph.graph if not graph.weak else ():
        types = {value.dtype for value in node.inputs if value is not None and value.dtype is not None}
        floats = sorted(
            dtype.name for dtype in types if dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
        )
        if node.op_type in _SAME_TYPES and len(floats) > 1:
            yield Hit(
                (name_of(node),),
                names_of(node.inputs),
                f"{node.op_type} reads {' and '.join(floats)}, strong typing wants one type: give the "
                "DequantizeLinear a scale of the type the other operands have",
            )


def _pairs(graph: QdqGraph) -> Iterator[Hit]:
    """A Q and its DQ with different parameters multiply the tensor by the ratio."""
    for step in graph.dequantizers:
        quantizer = graph.quantizer_of(step)
        if quantizer is not None and (not quantizer.same_scale(step) or quantizer.codes is not step.codes):
            yield Hit(
                (name_of(step.node), name_of(quantizer.node)),
                (str(quantizer.source.name),),
                "the DequantizeLinear has another scale or type than its QuantizeLinear: give both the same",
            )


def _per_channel_activations(graph: QdqGraph) -> Iterator[Hit]:
    """Activations have one scale; a scale per channel cannot leave the sum over channels."""
    for step in graph.quantizers:
        scale = dims(step.scale)
        if scale is not None and int(np.prod(scale)) > 1:
            yield Hit.on(step, "activations are quantized per tensor only: give this one a single scale")


def _int4_activations(graph: QdqGraph) -> Iterator[Hit]:
    """INT4 is for weights only."""
    for step in graph.quantizers:
        if step.codes is ir.DataType.INT4:
            yield Hit.on(
                step, "TensorRT has INT4 for weights only: quantize this activation to INT8 or FP8, or not at all"
            )


def _opsets(graph: QdqGraph) -> Iterator[Hit]:
    """What needs a newer opset than the file has, and a weakly typed file newer than TensorRT 8.6 reads."""
    if graph.weak and graph.opset > WEAK_OPSET:
        yield Hit(
            (), (), f"opset {graph.opset} is newer than TensorRT 8.6 reads: convert the file to opset {WEAK_OPSET}"
        )
    for step in graph.parameters:
        scale = dims(step.scale)
        if step.codes is ir.DataType.FLOAT8E4M3FN and step.node.domain == "" and graph.opset < _FP8_OPSET:
            yield Hit.on(
                step, f"FP8 needs opset {_FP8_OPSET}, the file has {graph.opset}: export at {_FP8_OPSET} or later"
            )
        elif scale is not None and int(np.prod(scale)) > 1 and graph.opset < _PER_CHANNEL_OPSET:
            yield Hit.on(
                step, f"per-channel scales need opset {_PER_CHANNEL_OPSET}, the file has {graph.opset}: export again"
            )


def _weak_types(graph: QdqGraph) -> Iterator[Hit]:
    """TensorRT 8.6 imports INT8 quantizers of FP32 tensors; everything else is a builder flag there."""
    for step in graph.parameters if graph.weak else ():
        if step.codes is not None and step.codes is not ir.DataType.INT8 and step.codes in TENSORRT_CODES:
            yield Hit.on(
                step,
                f"TensorRT 8.6 imports no {step.codes.name}: use the strongly typed file with TensorRT 10 or later",
            )
        elif step.floats not in (None, ir.DataType.FLOAT):
            yield Hit.on(step, "TensorRT 8.6 wants FP32 around Q/DQ: set FP16 by builder flags instead")


def _weight_axes(graph: QdqGraph) -> Iterator[Hit]:
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


def _unpaired_quantize(graph: QdqGraph) -> Iterator[Hit]:
    """Codes that something else than a DQ reads."""
    for step in graph.steps:
        if step.quantizes:
            strangers = [node for node, _ in graph.readers(step.result) if node.op_type not in DEQUANTIZE]
            if strangers:
                yield Hit(
                    tuple(map(name_of, (step.node, *strangers))),
                    (str(step.source.name),),
                    "codes are read without a DequantizeLinear, which TensorRT cannot interpret: put "
                    "one before the reader",
                )


ERRORS: Mapping[str, Check] = {
    "foreign-operator": _foreign_operators,
    "code-type": _code_types,
    "zero-point": _zero_points,
    "scale-value": _scale_values,
    "scale-shape": _scale_shapes,
    "scale-type": _scale_types,
    "operand-types": _operand_types,
    "pair-mismatch": _pairs,
    "activation-per-channel": _per_channel_activations,
    "activation-int4": _int4_activations,
    "opset": _opsets,
    "weak-type": _weak_types,
    "weight-axis": _weight_axes,
    "unpaired-quantize": _unpaired_quantize,
}
"""Rules whose breach is an error: id to what finds breaches."""
