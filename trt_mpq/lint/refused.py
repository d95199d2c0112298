"""What TensorRT's parser or compiler refuses.

Sources: what TensorRT for RTX says to the graphs of `bench/results/lint-truth.md`, whose parser (onnx-tensorrt)
TensorRT 10 and 11 share; TensorRT developer guide, "Quantized types"; for TensorRT 8.6 its support matrix.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from trt_mpq.graph.edit import constant_array
from trt_mpq.graph.onnx_api import takes
from trt_mpq.graph.operators import DEQUANTIZE, DYNAMIC_QUANTIZE, INTEGER, PRODUCTS, WEIGHTED
from trt_mpq.graph.opset import WEAK_OPSET
from trt_mpq.lint.findings import Check, Hit
from trt_mpq.lint.graph import OPERANDS, TENSORRT_CODES, WEIGHT_ONLY, QdqGraph, Step, dims, name_of, names_of

_SAME_TYPES = WEIGHTED | {"Add", "Sub", "Mul", "Div", "Concat"}
_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})


def _foreign_operators(graph: QdqGraph) -> Iterator[Hit]:
    """Integer operators of ONNX and ONNX Runtime, which the parser has no importer for."""
    for node in graph.graph:
        if node.op_type in INTEGER:
            what = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            yield Hit(
                (name_of(node),),
                (),
                f"TensorRT does not import {what}: export with QuantizeLinear and DequantizeLinear (the QDQ format)",
            )


def _code_types(graph: QdqGraph) -> Iterator[Hit]:
    """Types other than INT8, FP8 E4M3, INT4 and FP4; a Q that writes UINT8 is taken, see `wrong_numbers`."""
    for step in graph.parameters:
        if step.codes in TENSORRT_CODES or step.codes is None or (step.quantizes and step.codes is ir.DataType.UINT8):
            continue
        integer = step.codes is ir.DataType.INT32
        advice = "leave biases in floating point" if integer else "quantize symmetrically to INT8 with zero point 0"
        yield Hit.on(step, f"TensorRT has no {step.codes.name} quantization: {advice}")


def _zero_points(graph: QdqGraph) -> Iterator[Hit]:
    """Quantization is symmetric only; the parser asserts zero points of 0 and as many of them as scales."""
    for step in graph.parameters:
        if step.zero is None or step.codes not in TENSORRT_CODES | {ir.DataType.UINT8}:
            continue
        if step.zero.const_value is None:
            yield Hit.on(step, "the zero point is computed, TensorRT wants a stored 0: store it as an initializer")
        elif np.any(constant_array(step.zero)):
            yield Hit.on(
                step,
                "the zero point is not 0, TensorRT knows symmetric quantization only: calibrate symmetrically",
            )


def _scale_values(graph: QdqGraph) -> Iterator[Hit]:
    """The parser asserts positive scales; one that is computed ends TensorRT for RTX without a word."""
    for step in graph.parameters:
        if step.scale is None or not (graph.is_constant(step.scale) or _comes_with_codes(graph, step)):
            yield Hit.on(
                step, "the scale is not stored in the model, TensorRT has no dynamic one: store it as an initializer"
            )
        elif step.steps is not None and not np.all(step.steps > 0):
            worst = step.steps[~(step.steps > 0)].ravel()[0]
            yield Hit.on(step, f"a scale is {worst:g}, TensorRT wants all of them positive: calibrate again")


def _comes_with_codes(graph: QdqGraph, step: Step) -> bool:
    """Whether codes and their scales come from one dynamic quantizer, which writes the scales as codes too."""
    scales = graph.step(step.scale)
    made = None if scales is None else scales.source.producer()
    return made is not None and made.op_type == DYNAMIC_QUANTIZE and step.source.producer() is made


def _scale_shapes(graph: QdqGraph) -> Iterator[Hit]:
    """One scale, or one per channel, and as many zero points (asserted by the parser)."""
    for step in graph.parameters:
        scale, zero, shape = dims(step.scale), dims(step.zero), dims(step.source)
        if scale is None or step.blocked:
            continue
        count = int(np.prod(scale))
        if len(scale) > 1:
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


def _operand_types(graph: QdqGraph) -> Iterator[Hit]:
    """Strong typing inserts no casts: operands of different float types are refused."""
    for node in graph.graph if not graph.weak else ():
        types = {value.dtype for value in node.inputs if value is not None and value.dtype is not None}
        floats = sorted(dtype.name for dtype in types & _FLOATS)
        if node.op_type in _SAME_TYPES and len(floats) > 1:
            yield Hit(
                (name_of(node),),
                names_of(node.inputs),
                f"{node.op_type} reads {' and '.join(floats)}, strong typing wants one type: give the "
                "DequantizeLinear a scale of the type the other operands have",
            )


def _operand_formats(graph: QdqGraph) -> Iterator[Hit]:
    """Products multiply codes of one type; a matrix product widens weights of 4 bit to INT8."""
    for node in graph.weighted():
        steps = [graph.dequantized(value) for value in node.inputs[:OPERANDS]]
        formats = {step.codes for step in steps if step is not None}
        widened = node.op_type in PRODUCTS and formats & WEIGHT_ONLY and ir.DataType.INT8 in formats
        if len(formats) > 1 and None not in formats and formats <= TENSORRT_CODES and not widened:
            listed = " and ".join(sorted(codes.name for codes in formats if codes is not None))
            why = f"it multiplies {listed}, for which there is no kernel: quantize both operands alike"
            yield Hit((name_of(node),), names_of(node.inputs[:OPERANDS]), why)


def _operand_scales(graph: QdqGraph) -> Iterator[Hit]:
    """The compiler multiplies the scales of a matrix product's operands, and asserts that both have one type."""
    for node in graph.weighted():
        steps = [graph.dequantized(value) for value in node.inputs[:OPERANDS]]
        scales = [step.scale.dtype for step in steps if step is not None and step.scale is not None]
        if node.op_type in PRODUCTS and len(scales) == OPERANDS and len(set(scales)) > 1:
            listed = " and ".join(sorted(scale.name for scale in scales if scale is not None))
            why = f"the scales of its operands are {listed}, the compiler wants one type: store both scales alike"
            yield Hit((name_of(node),), names_of(node.inputs[:OPERANDS]), why)


def _int4_activations(graph: QdqGraph) -> Iterator[Hit]:
    """INT4 is for weights only."""
    for step in graph.quantizers:
        if step.codes is ir.DataType.INT4:
            yield Hit.on(
                step, "TensorRT has INT4 for weights only: quantize this activation to INT8 or FP8, or not at all"
            )


def _unpaired_quantize(graph: QdqGraph) -> Iterator[Hit]:
    """Codes that an operator reads which ONNX defines for floats only; Relu, Add or Concat take them as integers."""
    for step in graph.steps:
        if not step.quantizes or step.codes is None:
            continue
        strangers = [
            node
            for node, index in graph.readers(step.result)
            if node.op_type not in DEQUANTIZE and not takes(node, index, step.codes, graph.opset)
        ]
        if strangers:
            yield Hit(
                tuple(map(name_of, (step.node, *strangers))),
                (str(step.source.name),),
                f"its codes are read by {strangers[0].op_type}, which takes floats only: put a DequantizeLinear "
                "before it",
            )


def _weak_opset(graph: QdqGraph) -> Iterator[Hit]:
    """A weakly typed file newer than TensorRT 8.6 reads."""
    if graph.weak and graph.opset > WEAK_OPSET:
        yield Hit(
            (), (), f"opset {graph.opset} is newer than TensorRT 8.6 reads: convert the file to opset {WEAK_OPSET}"
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


REFUSED: Mapping[str, Check] = {
    "foreign-operator": _foreign_operators,
    "code-type": _code_types,
    "zero-point": _zero_points,
    "scale-value": _scale_values,
    "scale-shape": _scale_shapes,
    "operand-types": _operand_types,
    "operand-formats": _operand_formats,
    "operand-scales": _operand_scales,
    "activation-int4": _int4_activations,
    "unpaired-quantize": _unpaired_quantize,
    "weak-opset": _weak_opset,
    "weak-type": _weak_types,
}
"""Rules whose breach is refused: id to what finds breaches."""
