"""What ONNX operators are to TensorRT: each set of names once, for every module that asks.

A set that is another one and more is written so, with the reason. Sets that one module alone reads stay there.
"""

from __future__ import annotations

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators that TensorRT runs in 8 bit when their weight is constant (developer guide, "Explicit quantization")."""
PRODUCTS = frozenset({"Gemm", "MatMul"})
"""Those of them that are matrix products."""

RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
"""Operators whose steps wait for each other."""
CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})
"""Operators that run graphs of their own."""

QUANTIZE = frozenset({"QuantizeLinear", "TRT_FP8QuantizeLinear", "TRT_INT4QuantizeLinear"})
"""Operators that make codes out of floats: ONNX's, and those of the `trt` domain that Model Optimizer writes."""
DEQUANTIZE = frozenset({"DequantizeLinear", "TRT_FP8DequantizeLinear", "TRT_INT4DequantizeLinear"})
"""Operators that make floats out of codes, likewise."""

TENSORRT_DOMAIN = "trt"
"""NVIDIA's domain of operators that TensorRT's parser knows and ONNX has not."""
DYNAMIC_QUANTIZE = "TRT_FP4DynamicQuantize"
"""Its operator that makes codes and scales of blocks out of floats."""

STANDARD_INTEGER = frozenset({"QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"})
"""ONNX's own operators that compute with codes: a model that has one is quantized already."""
INTEGER = STANDARD_INTEGER | {
    *("QLinearAdd", "QLinearMul", "QGemm", "QLinearConcat", "QLinearGlobalAveragePool", "QLinearAveragePool"),
    *("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"),
}
"""The same with those of ONNX Runtime: TensorRT's ONNX parser has no importer for any of them."""

ACTIVATIONS = frozenset(
    {"Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSwish", "HardSigmoid", "Elu", "Gelu", "Softplus"}
)
"""Functions of one element that TensorRT fuses behind a weighted operator (developer guide, "Types of fusions")."""
HOMOGENEOUS = frozenset({"Relu", "LeakyRelu"})
"""Activations with f(a x) = a f(x) for every a > 0: a factor per channel passes through them."""

VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})
"""Operators whose result is another shape of the same memory."""
MOVING = VIEWS | {"Identity", "Transpose", "MaxPool", "Slice", "Split", "DepthToSpace", "SpaceToDepth"}
"""Operators that only move or select values of their first input, whatever their other inputs are.

TensorRT carries Q and DQ across them (developer guide, "Explicit quantization").
"""
COMMUTING = MOVING | {"Gather", "Expand"}
"""The same with two more whose result holds values of their first input.

The linter follows codes across all of them. Groups tie the scales on both sides of a Gather only if its index is stored
(`groups.scales`), and of an Expand never.
"""
VALUE_PRESERVING = COMMUTING | {
    *("Relu", "Clip", "Max", "Min", "Abs", "Neg", "GlobalMaxPool", "ReduceMax", "ReduceMin", "Concat", "Tile", "Pad")
}
"""Operators whose results are values they were given, up to the sign: half in, half out, nothing to round.

Q and DQ do not commute with all of them: a Relu fuses with what is before it, and a Concat joins several scales.
"""
VALUE_BLIND = frozenset({"Shape", "Size"})
"""Operators that read no values: they take a tensor in whatever type it has."""

MASKING = frozenset(
    {
        *("Add", "Cast", "Concat", "Expand", "Gather", "Mul", "Reshape", "Slice", "Squeeze", "Transpose"),
        *("Unsqueeze", "Where"),
    }
)
"""What torch's exporter writes between the constants of an attention mask and the softmax: sums, choices, shapes."""
