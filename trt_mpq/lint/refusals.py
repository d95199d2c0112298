"""What TensorRT refuses or computes differently from what the file says.

Sources: TensorRT developer guide, "Quantized types" and "Explicit quantization"; the checks of the ONNX parser
(onnx-tensorrt, QuantizeLinear and DequantizeLinear importer).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from trt_mpq.lint.graph import WEIGHTED, QdqGraph, Step, content, dims, name_of
from trt_mpq.lint.values import Hit

_TYPE = ir.DataType
TENSORRT_CODES = frozenset({_TYPE.INT8, _TYPE.FLOAT8E4M3FN, _TYPE.INT4, _TYPE.FLOAT4E2M1})
WEIGHT_ONLY = frozenset({_TYPE.INT4, _TYPE.FLOAT4E2M1})
_FOREIGN = frozenset(
    {
        *("QLinearConv", "QLinearMatMul", "QLinearAdd", "QLinearMul", "QGemm", "QLinearConcat"),
        *("QLinearGlobalAveragePool", "QLinearAveragePool", "QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax"),
        *("ConvInteger", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeLinear", "DynamicQuantizeMatMul"),
    }
)
_SAME_TYPES = WEIGHTED | {"Add", "Sub", "Mul", "Div", "Concat"}
_HALF_NORMAL = 2.0**-14
WEAK_OPSET = 17
_FP8_OPSET = 19
_PER_CHANNEL_OPSET = 13
_TYPED_OPSET = 19
"""From here on ONNX wants the scale in the type of the tensor; before, TensorRT's parser casts it."""


def foreign_operators(graph: QdqGraph) -> Iterator[Hit]:
    """Integer operators of ONNX and ONNX Runtime, which the parser has no importer for."""
    for node in graph.graph:
        if node.op_type in _FOREIGN or (
            node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.domain == "com.microsoft"
        ):
            what = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            yield Hit(
                (name_of(node),),
                (),
                f"TensorRT does not import {what}: export with QuantizeLinear and DequantizeLinear (the QDQ format)",
            )


def code_types(graph: QdqGraph) -> Iterator[Hit]:
    """Types other than INT8, FP8 E4M3, INT4 and FP4. A Q without zero point and type writes UINT8 (ONNX)."""
    for step in graph.parameters:
        if step.codes in TENSORRT_CODES or step.codes is None:
            continue
        if step.codes is _TYPE.INT32:
            advice = "leave biases in floating point"
        elif step.zero is None and step.quantizes:
            advice = "give it an INT8 zero point of 0, without one ONNX means UINT8"
        else:
            advice = "quantize symmetrically to INT8 with zero point 0"
        yield _on(step, f"TensorRT has no {step.codes.name} quantization: {advice}")


def zero_points(graph: QdqGraph) -> Iterator[Hit]:
    """Quantization is symmetric only; the parser asserts zero points of 0 and as many of them as scales."""
    for step in graph.parameters:
        if step.zero is None or step.codes not in TENSORRT_CODES:
            continue
        if step.zero.const_value is None:
            yield _on(step, "the zero point is computed, TensorRT wants a stored 0: store it as an initializer")
        elif np.any(content(step.zero).astype(np.float32)):
            yield _on(
                step,
                "the zero point is not 0, TensorRT knows symmetric quantization only: calibrate symmetrically",
            )


def scale_values(graph: QdqGraph) -> Iterator[Hit]:
    """The parser asserts positive scales; NaN and infinity give no numbers at all."""
    for step in graph.parameters:
        if step.scale is None or not graph.is_constant(step.scale):
            yield _on(
                step, "the scale is not stored in the model, TensorRT has no dynamic one: store it as an initializer"
            )
        elif step.steps is not None and not np.all(np.isfinite(step.steps) & (step.steps > 0)):
            worst = step.steps[~(np.isfinite(step.steps) & (step.steps > 0))].ravel()[0]
            yield _on(step, f"a scale is {worst:g}, TensorRT wants all of them positive and finite: calibrate again")


def subnormal_scales(graph: QdqGraph) -> Iterator[Hit]:
    """FP16 scales below 2^-14 have few bits left."""
    for step in graph.parameters:
        if step.scale is not None and step.scale.dtype is _TYPE.FLOAT16 and step.steps is not None:
            small = step.steps[(step.steps > 0) & (step.steps < _HALF_NORMAL)]
            if small.size:
                yield _on(
                    step,
                    f"the FP16 scale {small.min():.3g} is subnormal, which rounds coarsely: harmless where a "
                    "channel is next to zero anyway, else keep the layer in high precision",
                )


def scale_shapes(graph: QdqGraph) -> Iterator[Hit]:
    """One scale, or one per channel, and as many zero points (asserted by the parser)."""
    for step in graph.parameters:
        scale, zero, shape = dims(step.scale), dims(step.zero), dims(step.source)
        if scale is None or step.blocked:
            continue
        count = int(np.prod(scale))
        if len(scale) > 1 and count > 1:
            yield _on(step, f"the scale has shape {list(scale)}: store one value, or one per channel")
        elif zero is not None and int(np.prod(zero)) != count:
            yield _on(
                step, f"there are {count} scales and {int(np.prod(zero))} zero points: store one zero point per scale"
            )
        elif count > 1 and shape is not None and (step.axis >= len(shape) or shape[step.axis] != count):
            yield _on(
                step,
                f"there are {count} scales for axis {step.axis} of shape {list(shape)}: store one per "
                "index of the axis",
            )


def per_channel_activations(graph: QdqGraph) -> Iterator[Hit]:
    """Activations have one scale; a scale per channel cannot leave the sum over channels."""
    for step in graph.quantizers:
        scale = dims(step.scale)
        if scale is not None and int(np.prod(scale)) > 1:
            yield _on(step, "activations are quantized per tensor only: give this one a single scale")


def pairs(graph: QdqGraph) -> Iterator[Hit]:
    """A Q and its DQ with different parameters multiply the tensor by the ratio."""
    for step in graph.dequantizers:
        quantizer = graph.quantizer_of(step)
        if quantizer is not None and (not quantizer.same_scale(step) or quantizer.codes is not step.codes):
            yield Hit(
                (name_of(step.node), name_of(quantizer.node)),
                (str(quantizer.source.name),),
                "the DequantizeLinear has another scale or type than its QuantizeLinear: give both the same",
            )


def int4_activations(graph: QdqGraph) -> Iterator[Hit]:
    """INT4 is for weights only."""
    for step in graph.quantizers:
        if step.codes is _TYPE.INT4:
            yield _on(
                step, "TensorRT has INT4 for weights only: quantize this activation to INT8 or FP8, or not at all"
            )


def opsets(graph: QdqGraph) -> Iterator[Hit]:
    """What needs a newer opset than the file has, and a weakly typed file newer than TensorRT 8.6 reads."""
    if graph.weak and graph.opset > WEAK_OPSET:
        yield Hit(
            (), (), f"opset {graph.opset} is newer than TensorRT 8.6 reads: convert the file to opset {WEAK_OPSET}"
        )
    for step in graph.parameters:
        scale = dims(step.scale)
        if step.codes is _TYPE.FLOAT8E4M3FN and step.node.domain == "" and graph.opset < _FP8_OPSET:
            yield _on(
                step, f"FP8 needs opset {_FP8_OPSET}, the file has {graph.opset}: export at {_FP8_OPSET} or later"
            )
        elif scale is not None and int(np.prod(scale)) > 1 and graph.opset < _PER_CHANNEL_OPSET:
            yield _on(
                step, f"per-channel scales need opset {_PER_CHANNEL_OPSET}, the file has {graph.opset}: export again"
            )


def scale_types(graph: QdqGraph) -> Iterator[Hit]:
    """Strong typing: a Q reads tensor and scale of one type, a DQ writes the type of its scale."""
    for step in graph.steps:
        if not step.quantizes or step.scale is None or graph.opset < _TYPED_OPSET or step.node.domain:
            continue
        tensor, scale = step.source.dtype, step.scale.dtype
        if tensor is not None and scale is not None and tensor is not scale:
            yield _on(
                step,
                f"the tensor is {tensor.name} and the scale {scale.name}: strong typing wants one type, cast the scale",
            )


def operand_types(graph: QdqGraph) -> Iterator[Hit]:
    """Strong typing inserts no casts: operands of different float types are refused."""
    for node in graph.graph if not graph.weak else ():
        types = {value.dtype for value in node.inputs if value is not None and value.dtype is not None}
        floats = sorted(dtype.name for dtype in types if dtype in (_TYPE.FLOAT, _TYPE.FLOAT16, _TYPE.BFLOAT16))
        if node.op_type in _SAME_TYPES and len(floats) > 1:
            yield Hit(
                (name_of(node),),
                tuple(str(value.name) for value in node.inputs if value is not None),
                f"{node.op_type} reads {' and '.join(floats)}, strong typing wants one type: give the "
                "DequantizeLinear a scale of the type the other operands have",
            )


def weak_types(graph: QdqGraph) -> Iterator[Hit]:
    """TensorRT 8.6 imports INT8 quantizers of FP32 tensors; everything else is a builder flag there."""
    for step in graph.parameters if graph.weak else ():
        if step.codes is not None and step.codes is not _TYPE.INT8 and step.codes in TENSORRT_CODES:
            yield _on(
                step,
                f"TensorRT 8.6 imports no {step.codes.name}: use the strongly typed file with TensorRT 10 or later",
            )
        elif step.floats not in (None, _TYPE.FLOAT):
            yield _on(step, "TensorRT 8.6 wants FP32 around Q/DQ: set FP16 by builder flags instead")


def weak_codes(graph: QdqGraph) -> Iterator[Hit]:
    """Earlier 8.x versions refuse INT8 constants, whether 8.6 takes them is unknown."""
    for step in graph.dequantizers if graph.weak else ():
        if step.source.const_value is not None and step.codes is _TYPE.INT8:
            yield _on(
                step,
                "whether TensorRT 8.6 reads weights stored as INT8 is unknown: store them in FP32 "
                "with a QuantizeLinear",
            )


def _on(step: Step, message: str) -> Hit:
    return Hit((name_of(step.node),), (str(step.source.name),), message)
