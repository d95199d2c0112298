"""What compiles and then computes something else than the file says, or nothing but NaN.

Source: the programs that TensorRT for RTX compiles from the graphs of `bench/results/lint-truth.md`; its parser warns
that it supports "UINT8 zero_point only on DLA" and goes on with INT8. Of weights in blocks beside quantized operands
the program multiplies the codes as they are stored, over all blocks at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from trt_mpq.graph.edit import constant_array
from trt_mpq.lint.findings import Check, Hit
from trt_mpq.lint.graph import OPERANDS, QdqGraph, Step, name_of, names_of

_SATURATES = "which TensorRT reads as INT8, so that every code above 127 saturates"


def _unsigned_codes(graph: QdqGraph) -> Iterator[Hit]:
    """A Q that writes UINT8, as tools place it behind a Relu. One without zero point and type writes UINT8 (ONNX)."""
    for step in graph.parameters:
        if not step.quantizes or step.codes is not ir.DataType.UINT8 or _shifted(step):
            continue
        if step.zero is None:
            what = f"without a zero point it writes UINT8 (ONNX), {_SATURATES}"
            yield Hit.on(step, f"{what}: give it an INT8 zero point of 0")
        else:
            yield Hit.on(step, f"it writes UINT8, {_SATURATES}: quantize symmetrically to INT8 with zero point 0")


def _shifted(step: Step) -> bool:
    """Whether the zero point is not 0, or computed: refused as such."""
    if step.zero is None:
        return False
    return step.zero.const_value is None or bool(np.any(constant_array(step.zero)))


def _infinite_scales(graph: QdqGraph) -> Iterator[Hit]:
    """0 times infinity is NaN."""
    for step in graph.parameters:
        if step.steps is not None and np.any(np.isposinf(step.steps)):
            yield Hit.on(step, "a scale is inf, so that all it is for becomes NaN: calibrate again")


def _blocked_products(graph: QdqGraph) -> Iterator[Hit]:
    """Scales of blocks cannot leave the sum; beside a quantized operand the compiler takes them out all the same."""
    for node in graph.weighted():
        data, weight = map(graph.dequantized, graph.operands(node))
        if data is not None and weight is not None and weight.in_blocks and weight.codes is not ir.DataType.FLOAT4E2M1:
            yield Hit(
                (name_of(node), name_of(weight.node)),
                names_of(node.inputs[:OPERANDS]),
                "its weight has scales per block, which the compiler multiplies the finished sum with when the other "
                "operand is quantized: leave that in floating point, or quantize the weight per channel",
            )


WRONG_NUMBERS: Mapping[str, Check] = {
    "unsigned-codes": _unsigned_codes,
    "scale-infinite": _infinite_scales,
    "blocked-product": _blocked_products,
}
"""Rules whose breach gives wrong numbers: id to what finds breaches."""
