"""Attention masks that every later stage can hold.

Torch hides a token by adding -inf, or the most negative float32, to its score before the softmax. Neither can be
calibrated, and the second overflows float16. `_HIDDEN` gives the same weight, 0, because exp(-10000) is 0 in float32.
Only a row in which everything is hidden comes out differently, and the comparison with torch sees the result.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from trt_mpq.graph.operators import MASKING

_HIDDEN = -10000.0
_HUGE = -1e30
"""Constants below are no numbers of a network."""


def soften_masks(graph: ir.Graph) -> None:
    """Raise constants below -1e30 that only softmaxes ever see to `_HIDDEN`, in place."""
    for value in graph.initializers.values():
        if value.dtype is not ir.DataType.FLOAT or value.const_value is None:
            continue
        content = value.const_value.numpy()
        if content.size and content.min() < _HUGE and _only_softmax_sees(value):
            value.const_value = ir.tensor(np.maximum(content, np.float32(_HIDDEN)), name=value.name)


def _only_softmax_sees(value: ir.Value) -> bool:
    """Whether every way from `value` ends in a softmax, through nothing but sums, choices and changes of shape."""
    seen: set[ir.Node] = set()
    waiting = [value]
    while waiting:
        current = waiting.pop()
        if current.is_graph_output():
            return False
        for node in current.consumers():
            if node.op_type not in MASKING | {"Softmax"}:
                return False
            if node.op_type != "Softmax" and node not in seen:
                seen.add(node)
                waiting.extend(node.outputs)
    return True
