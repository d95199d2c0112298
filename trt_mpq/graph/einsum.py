"""What the indices of an Einsum are."""

from __future__ import annotations

import onnx_ir as ir

from trt_mpq.errors import ModelError

_ELLIPSIS = "..."
_FIRST_FREE = 0x3B1
"""The axes of an ellipsis get Greek letters from here on, which no equation has."""


def labels_of(node: ir.Node) -> tuple[str, ...]:
    """One label per axis of every operand of an Einsum, then of its result; the ellipsis is spelled out.

    Raises:
        ModelError: The rank of an operand is unknown.
    """
    left, arrow, right = node.attributes.get_string("equation", "").replace(" ", "").partition("->")
    operands = left.split(",")
    named = [term.replace(_ELLIPSIS, "") for term in operands]
    hidden = [_rank(value) - len(term) for value, term in zip(node.inputs, named, strict=True)]
    free = "".join(chr(_FIRST_FREE + number) for number in range(max(hidden)))
    if not arrow:
        every = "".join(named)
        right = _ELLIPSIS * (_ELLIPSIS in left) + "".join(sorted(label for label in every if every.count(label) == 1))
    spelled = [term.replace(_ELLIPSIS, free[len(free) - rank :]) for term, rank in zip(operands, hidden, strict=True)]
    return (*spelled, right.replace(_ELLIPSIS, free))


def _rank(value: ir.Value | None) -> int:
    if value is None or value.shape is None:
        name = value.name if value else "an operand"
        raise ModelError(f"the rank of {name}, which an Einsum reads, is unknown: export the model with shapes")
    return len(value.shape)
