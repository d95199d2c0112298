"""Which axis of an input or output counts rows: the first, but for recurrences and where names say so, or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from trt_mpq.errors import ModelError, SettingsError
from trt_mpq.graph import onnx_api
from trt_mpq.graph.operators import ACTIVATIONS, MOVING, RECURRENT

_STATES = (5, 6)
"""Inputs of LSTM, GRU and RNN for initial states, ``[directions, batch, hidden]`` in their usual layout."""

_PLACING = ACTIVATIONS | {
    *("Add", "Sub", "Mul", "Div", "Cast", "Identity", "Dropout", "LayerNormalization", "MatMul", "Gather")
}
"""Operators that leave the first two axes of a sequence where they are: what networks compute before a recurrence."""
_INDEX = 1
"""Place of the indices among the inputs of a Gather: an embedding's steps and rows are theirs."""

_BATCHES = (2, 3)
"""Numbers of rows at which shapes of outputs are compared."""

_Size = int | ir.SymbolicDim


def batch_axes(graph: ir.Model, asked: Mapping[str, int | None]) -> dict[str, int | None]:
    """Axis of every input and output that counts rows of the batch; None for inputs that are the same for all rows.

    Args:
        graph: A prepared graph.
        asked: What the user says of some of them. Of other inputs, names and sizes of axes tell, and what reads them;
            of outputs, which axis grows with the batch.

    Raises:
        SettingsError: `asked` names no input or output, or an axis that it does not have.
    """
    inputs = {str(value.name): value for value in graph.graph.inputs if not value.is_initializer()}
    outputs = {str(value.name): value for value in graph.graph.outputs}
    for name, axis in asked.items():
        _check(name, axis, inputs, outputs)
    found = {**_input_axes(inputs), **{name: axis for name, axis in asked.items() if name in inputs}}
    return {**found, **_output_axes(graph, found), **asked}


def with_states(axes: Mapping[str, int | None], states: Mapping[str, str], graph: ir.Model) -> dict[str, int | None]:
    """`axes` where outputs that are `states`, inputs of the next step, have their rows where these do.

    Args:
        axes: As `batch_axes` has them.
        states: Input to the output that it is at the next step.
        graph: A prepared graph.

    Raises:
        SettingsError: There is no such input or output, or they differ in type or shape.
    """
    inputs = {str(value.name): value for value in graph.graph.inputs if not value.is_initializer()}
    outputs = {str(value.name): value for value in graph.graph.outputs}
    for state, output in states.items():
        if state not in inputs or output not in outputs:
            raise SettingsError(
                f"--states: {output}:{state} is to be an output and an input, and the model's outputs are "
                f"{', '.join(outputs)} and its inputs {', '.join(inputs)}"
            )
        if axes[state] is None or not _could_be(inputs[state], outputs[output]):
            described = (f"{value.name} {value.dtype} {value.shape}" for value in (outputs[output], inputs[state]))
            raise SettingsError(f"--states: {' cannot be '.join(described)} at the next step")
    if states and not set(inputs) - set(states):
        raise SettingsError("--states: every input is a state, and nothing is left for data to tell")
    return {**axes, **{output: axes[state] for state, output in states.items()}}


def _could_be(state: ir.Value, output: ir.Value) -> bool:
    """Whether an output could be that input: of one type, and of one size wherever both are known."""
    if state.dtype is not output.dtype:
        return False
    if state.shape is None or output.shape is None:
        return True
    pairs = list(zip(state.shape, output.shape, strict=False))
    return len(state.shape) == len(output.shape) and all(
        one == other for one, other in pairs if isinstance(one, int) and isinstance(other, int)
    )


def _check(name: str, axis: int | None, inputs: Mapping[str, ir.Value], outputs: Mapping[str, ir.Value]) -> None:
    known = {**outputs, **inputs}
    if name not in known:
        listed = f"its inputs are {', '.join(inputs)} and its outputs {', '.join(outputs)}"
        raise SettingsError(f"--batch-axis: the model has no input or output {name!r}, {listed}")
    kind, rank = "input" if name in inputs else "output", len(known[name].shape or ())
    if axis is not None and axis >= rank:
        raise SettingsError(f"--batch-axis: {kind} {name!r} has {rank} axes, counted from 0")
    if axis is None and name not in inputs:
        raise SettingsError(f"--batch-axis: output {name!r} has rows, none is for inputs: leave it out with --outputs")


def _output_axes(graph: ir.Model, fed: Mapping[str, int | None]) -> dict[str, int]:
    """The axis of every output whose size follows the batch; the first where no shape tells another."""
    if all(_is_first(value, graph.graph, fed) for value in graph.graph.outputs):
        return {str(value.name): 0 for value in graph.graph.outputs}
    few, more = (_shapes_of_outputs(graph, fed, rows) for rows in _BATCHES)
    return {name: _growing(few[name], more[name]) for name in few}


def _is_first(value: ir.Value, graph: ir.Graph, fed: Mapping[str, int | None]) -> bool:
    """Whether the first axis of an output bears the name of one that counts rows of an input."""
    rows = {v.shape[axis] for v in graph.inputs if v.shape and (axis := fed.get(str(v.name))) is not None}
    first = value.shape[0] if value.shape else None
    return isinstance(first, ir.SymbolicDim) and first.value is not None and first in rows


def _shapes_of_outputs(graph: ir.Model, fed: Mapping[str, int | None], rows: int) -> dict[str, tuple[_Size, ...]]:
    """Shapes of the outputs with so many rows where inputs leave them free; empty where inference ends before them."""
    sized = graph.clone()
    for value in sized.graph.inputs:
        axis = fed.get(str(value.name))
        if axis is not None and value.shape is not None and isinstance(value.shape[axis], ir.SymbolicDim):
            value.shape = ir.Shape([rows if place == axis else size for place, size in enumerate(value.shape)])
    for value in sized.graph.outputs:
        value.shape = None if value.producer() is not None else value.shape
    try:
        onnx_api.infer_shapes(sized)
    except ModelError:  # a graph that has another batch built in: what its shapes would be tells nothing
        return {str(value.name): () for value in graph.graph.outputs}
    return {str(value.name): tuple(value.shape or ()) for value in sized.graph.outputs}


def _growing(few: tuple[_Size, ...], more: tuple[_Size, ...]) -> int:
    """The one axis whose sizes are as the two numbers of rows; the first if none or several are."""
    sizes = list(zip(few, more, strict=False))
    grown = [
        axis
        for axis, (one, other) in enumerate(sizes)
        if isinstance(one, int) and isinstance(other, int) and one * _BATCHES[1] == other * _BATCHES[0] != 0
    ]
    return grown[0] if len(grown) == 1 else 0


def _input_axes(inputs: Mapping[str, ir.Value]) -> dict[str, int | None]:
    rows = _rows([value for value in inputs.values() if value.shape is not None and len(value.shape)])
    return {name: _axis(value, rows) for name, value in inputs.items()}


def _rows(sized: Sequence[ir.Value]) -> _Size | None:
    """The size that is the number of rows: what recurrences know, a name that says so, the first axis of all."""
    own = [(tuple(value.shape or ())[_is_recurrent(value)], _is_recurrent(value)) for value in sized]
    named = [size for value in sized for size in value.shape or () if "batch" in str(size).lower()]
    candidates = (*(size for size, recurrent in own if recurrent), *named)
    free = (size for size in candidates if isinstance(size, ir.SymbolicDim) and size.value is not None)
    return next(free, own[0][0] if own else None)


def _axis(value: ir.Value, rows: _Size | None) -> int | None:
    sizes: tuple[_Size, ...] = tuple(value.shape or ())
    if not sizes or rows is None:
        return None
    if _is_recurrent(value):
        return 1
    if isinstance(sizes[0], ir.SymbolicDim) and (isinstance(rows, int) or rows not in sizes):
        return 0
    named = isinstance(rows, int) or rows.value is not None
    if named and rows in sizes:
        return sizes.index(rows)
    free = [axis for axis, size in enumerate(sizes) if isinstance(size, ir.SymbolicDim)]
    return free[0] if free else None


def _is_recurrent(value: ir.Value) -> bool:
    """Whether an LSTM, GRU or RNN tells that the second axis of an input counts rows."""
    return len(value.shape or ()) > 1 and (_is_a_sequence(value) or _starts_a_recurrence(value))


def _is_a_sequence(value: ir.Value) -> bool:
    """Whether an LSTM, GRU or RNN has the input as its sequence, ``[steps, batch, features]`` usually.

    Layers may come before it that leave steps and rows where they are: a projection, a norm, an embedding.
    """
    following, seen = [value], {value}
    while following:
        for node, index in following.pop().uses():
            if node.op_type in RECURRENT and index == 0:
                return node.attributes.get_int("layout", 0) == 0
            if node.op_type in _PLACING and (node.op_type != "Gather" or index == _INDEX):
                following += (output for output in node.outputs if output not in seen)
                seen.update(node.outputs)
    return False


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
