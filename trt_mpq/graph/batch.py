"""Which axis of an input counts rows: the first, but for states of recurrences, and none of an input given once."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from trt_mpq.errors import SettingsError
from trt_mpq.graph.operators import MOVING, RECURRENT

_STATES = (5, 6)
"""Inputs of LSTM, GRU and RNN for initial states, ``[directions, batch, hidden]`` in their usual layout."""

_Size = int | ir.SymbolicDim


def batch_axes(graph: ir.Graph, asked: Mapping[str, int | None]) -> dict[str, int | None]:
    """Axis of every input that counts rows of the batch; None for inputs that are the same for all rows.

    Args:
        graph: A prepared graph.
        asked: What the user says of some of them. Of the others, names and sizes of axes tell, and what reads them.

    Raises:
        SettingsError: `asked` names no input, or an axis that it does not have.
    """
    inputs = {str(value.name): value for value in graph.inputs if not value.is_initializer()}
    for name, axis in asked.items():
        if name not in inputs:
            raise SettingsError(f"--batch-axis: the model has no input {name!r}, its inputs are {', '.join(inputs)}")
        rank = len(inputs[name].shape or ())
        if axis is not None and axis >= rank:
            raise SettingsError(f"--batch-axis: input {name!r} has {rank} axes, counted from 0")
    rows = next((value.shape[0] for value in inputs.values() if value.shape is not None and len(value.shape)), None)
    found = {name: _axis(value, rows) for name, value in inputs.items()}
    return {**found, **asked}


def _axis(value: ir.Value, rows: _Size | None) -> int | None:
    sizes: tuple[_Size, ...] = tuple(value.shape or ())
    if not sizes or rows is None:
        return None
    if _starts_a_recurrence(value) and len(sizes) > 1:
        return 1
    if isinstance(sizes[0], ir.SymbolicDim) and (isinstance(rows, int) or rows not in sizes):
        return 0
    named = isinstance(rows, int) or rows.value is not None
    if named and rows in sizes:
        return sizes.index(rows)
    free = [axis for axis, size in enumerate(sizes) if isinstance(size, ir.SymbolicDim)]
    return free[0] if free else None


def _starts_a_recurrence(value: ir.Value) -> bool:
    """Whether an LSTM, GRU or RNN takes the input as its initial state, whole or in parts."""
    following, seen = [value], {value}
    while following:
        for node, index in following.pop().uses():
            if node.op_type in RECURRENT and index in _STATES:
                return node.attributes.get_int("layout", 0) == 0
            if node.op_type in MOVING and index == 0:
                following += (output for output in node.outputs if output not in seen)
                seen.update(node.outputs)
    return False
