"""Quantizers of activations in blocks, whose scales are computed with the values: NVFP4."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from trt_mpq.emit.rounding import Chain, insert_float
from trt_mpq.graph.edit import add_constant, insert_node, put_behind, reduced
from trt_mpq.graph.operators import DYNAMIC_QUANTIZE, TENSORRT_DOMAIN
from trt_mpq.numerics import LEAST, FloatArray
from trt_mpq.types import Precision
from trt_mpq.types.formats.fp8 import E4M3


def insert_block_qdq(graph: ir.Graph, value: ir.Value, scale: FloatArray, precision: Precision, name: str) -> ir.Value:
    """TensorRT's dynamic quantizer behind `value` and what turns its codes back, in the float type of `value`.

    It is an operator of NVIDIA's domain `trt`, which TensorRT knows and ONNX Runtime does not: given a tensor and the
    scale of scales, it writes codes and an E4M3 scale for every block along the last axis.
    """
    stem, block = f"{name}_{precision}", _block(precision)
    tensor_scale = add_constant(graph, f"{stem}_tensor_scale", scale)
    attributes = {"axis": -1, "block_size": block, "scale_type": int(ir.DataType.FLOAT8E4M3FN)}
    node = ir.node(
        DYNAMIC_QUANTIZE, [value, tensor_scale], attributes, domain=TENSORRT_DOMAIN, num_outputs=2, name=f"{stem}_q"
    )
    stored, scales = node.outputs
    stored.name, scales.name = f"{stem}_q", f"{stem}_scale_codes"
    stored.shape, stored.type = value.shape, ir.TensorType(ir.DataType.FLOAT4E2M1)
    scales.type = ir.TensorType(ir.DataType.FLOAT8E4M3FN)
    put_behind(graph, node, value.producer())
    graph.opset_imports[TENSORRT_DOMAIN] = 1
    wide = insert_node(
        graph, "DequantizeLinear", [scales, tensor_scale], f"{stem}_scale_dq", after=node, dtype=ir.DataType.FLOAT
    )
    result = insert_node(
        graph, "DequantizeLinear", [stored, wide], f"{stem}_dq", after=wide.producer(), dtype=ir.DataType.FLOAT,
        attributes={"axis": -1, "block_size": block},
    )  # fmt: skip
    if value.dtype in (None, ir.DataType.FLOAT):
        return result
    return insert_node(
        graph, "Cast", [result], f"{stem}_dq_{value.dtype.name.lower()}", after=result.producer(), dtype=value.dtype,
        attributes={"to": value.dtype},
    )  # fmt: skip


def insert_fake_block_quantizer(
    graph: ir.Graph, value: ir.Value, scale: FloatArray, precision: Precision, name: str
) -> ir.Value:
    """What `insert_block_qdq` gives, in FP32 arithmetic that ONNX Runtime has: `numerics.fake_quantize_blocks`.

    Blocks are rows of a matrix meanwhile, so that the number of axes of `value` need not be known.
    """
    stem, codes = f"{name}_{precision}", precision.codes
    tensor_scale = add_constant(graph, f"{stem}_tensor_scale", scale)
    step = Chain(graph, value, f"{stem}_blocks")
    shape = step("Shape", value, dtype=ir.DataType.INT64)
    rows = step("Reshape", value, add_constant(graph, f"{precision}_rows", np.array([-1, _block(precision)], np.int64)))
    rows.shape = None
    amax = reduced(graph, "ReduceMax", step("Abs", rows), [-1], f"{stem}_amax")
    step = Chain(graph, amax, stem)
    ratio = step("Div", amax, add_constant(graph, f"{stem}_unit", np.float32(codes.largest) * scale))
    block_scale = step("Mul", insert_float(graph, step, ratio, E4M3, 0.0, np.inf), tensor_scale)
    quotient = step("Div", rows, step("Max", block_scale, add_constant(graph, "least_scale", LEAST)))
    rounded = insert_float(graph, step, quotient, codes, -np.inf, np.inf)
    result = step("Reshape", step("Mul", rounded, block_scale), shape)
    result.shape = value.shape
    return result


def _block(precision: Precision) -> int:
    assert precision.spec.activations is not None
    return precision.spec.activations.blocks[0]
