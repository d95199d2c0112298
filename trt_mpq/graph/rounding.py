"""Rounding to codes as plain arithmetic: what ONNX Runtime computes fast, and at every level alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from trt_mpq.graph.edit import add_constant, constant_array, insert_node
from trt_mpq.graph.operators import VIEWS
from trt_mpq.types.formats import Codes

_SIGNIFICAND = 23
"""Explicit bits of the significand of float32."""


class Chain:
    """Inserts one op behind another, starting behind the producer of `value`."""

    def __init__(self, graph: ir.Graph, value: ir.Value, prefix: str) -> None:
        self._graph, self._after, self._prefix = graph, value.producer(), prefix
        self._steps = 0

    def __call__(
        self, op_type: str, *inputs: ir.Value, dtype: ir.DataType = ir.DataType.FLOAT, **attributes: Any
    ) -> ir.Value:
        """What an operator of the default domain makes of `inputs`."""
        self._steps += 1
        name = f"{self._prefix}_{self._steps}_{op_type.lower()}"
        value = insert_node(
            self._graph, op_type, list(inputs), name, after=self._after, dtype=dtype, attributes=attributes
        )
        self._after = value.producer()
        return value


def insert_float(graph: ir.Graph, step: Chain, ratio: ir.Value, to: Codes, low: float, high: float) -> ir.Value:
    """Round `ratio`, which lies between `low` and `high`, to the numbers of floating-point codes.

    Rounding to four significant bits is an addition that pushes the low bits out:
    ``c = max((2^20 - 1)|y|, 1.5 * 2^14); (c + y) - c``. It is equal to the E4M3FN cast for every float32
    magnitude up to 448, ties and subnormals included, and gives 448 up to 460 (tests/emit/test_quantizers.py goes
    through whole binades). Dekker's and Veltkamp's splittings (Dekker 1971) round ties or binade ends differently.
    """
    assert to.mantissa is not None
    bounded = max(-low, high) <= to.reach
    y = ratio if bounded else insert_clip(graph, step, ratio, to)
    magnitude = y if low >= 0 else step("Abs", y)
    spread = np.float32(2.0 ** (_SIGNIFICAND - to.mantissa) - 1)
    floor = np.float32(1.5 * to.tiny * 2.0**_SIGNIFICAND)
    spread_out = step("Mul", magnitude, add_constant(graph, f"{to.dtype}_spread", spread))
    carrier = step("Max", spread_out, add_constant(graph, f"{to.dtype}_floor", floor))
    return step("Sub", step("Add", carrier, y), carrier)


def insert_clip(graph: ir.Graph, step: Chain, value: ir.Value, to: Codes) -> ir.Value:
    """Saturate at the smallest and the largest of the codes."""
    bounds = (add_constant(graph, f"{to.dtype}_low", np.float32(to.smallest)),)
    return step("Clip", value, *bounds, add_constant(graph, f"{to.dtype}_high", np.float32(to.largest)))


def reach_of(value: ir.Value) -> tuple[float, float]:
    """Bounds of what a tensor can hold, where what it views was written by a Relu, a Clip or a Softmax.

    Rounding to FP16 or BF16 in between moves a bound by less than what `Codes.reach` leaves room for.
    """
    node = value.producer()
    while node is not None and node.op_type in VIEWS | {"Cast"} and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    if node is not None and node.op_type == "Relu":
        return 0.0, np.inf
    if node is not None and node.op_type == "Softmax":
        return 0.0, 1.0
    if node is not None and node.op_type == "Clip":
        bounds = dict(enumerate(node.inputs))
        return _constant_or(bounds.get(1), -np.inf), _constant_or(bounds.get(2), np.inf)
    return -np.inf, np.inf


def _constant_or(value: ir.Value | None, otherwise: float) -> float:
    return otherwise if value is None or value.const_value is None else constant_array(value).item()
