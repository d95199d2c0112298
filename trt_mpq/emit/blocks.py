"""Quantizers of activations in blocks, whose scales are computed with the values: NVFP4."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from trt_mpq.graph.edit import add_constant, constant_array, insert_node, put_behind, reduced, take_over
from trt_mpq.graph.operators import DYNAMIC_QUANTIZE, TENSORRT_DOMAIN
from trt_mpq.graph.rounding import Chain, insert_float
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


def multiply_rows(graph: ir.Graph, products: Iterable[ir.Node]) -> None:
    """Let MatMuls of a tensor of more than two axes and a weight multiply matrices, whose rows are all of its vectors.

    Tensor cores want scales of blocks in an order of their own. Of a matrix NVIDIA's compiler sorts them while it
    quantizes, and the weight's beforehand; of a tensor with more axes it has a kernel for each (`docs/formats.md`).
    """
    made: dict[ir.Value, tuple[ir.Value, ir.Value]] = {}
    for node in products:
        value, weight = node.inputs
        assert value is not None
        assert weight is not None
        summed, channels = constant_array(weight).shape
        if value.shape is not None and len(value.shape) == 2:
            continue
        if value not in made:
            leading = insert_node(
                graph, "Shape", [value], f"{value.name}_leading", after=value.producer(), dtype=ir.DataType.INT64,
                attributes={"end": -1},
            )  # fmt: skip
            flat = add_constant(graph, f"rows_of_{summed}", np.array([-1, summed], np.int64))
            rows = insert_node(graph, "Reshape", [value, flat], f"{value.name}_rows", after=value.producer())
            leading.shape = rows.shape = None
            made[value] = rows, leading
        rows, leading = made[value]
        node.replace_input_with(0, rows)
        _give_back_axes(graph, node.outputs[0], leading, channels)


def _give_back_axes(graph: ir.Graph, product: ir.Value, leading: ir.Value, channels: int) -> None:
    """Put the axes before the last, of the sizes `leading`, back into what is read of a `product` of rows."""
    last = add_constant(graph, f"channels_{channels}", np.array([channels], np.int64))
    after = product.producer()
    shape = insert_node(graph, "Concat", [leading, last], f"{product.name}_shape", after=after, attributes={"axis": 0})
    whole = insert_node(graph, "Reshape", [product, shape], f"{product.name}_whole", after=shape.producer())
    take_over(graph, product, whole, keeps=lambda user, _: user is whole.producer(), suffix="_rows")
    product.shape = None


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
