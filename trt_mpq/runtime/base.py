"""The port through which every stage executes a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx_ir as ir

Array = NDArray[Any]
Arrays = dict[str, Array]


def size_of(arrays: Arrays) -> int:
    """Bytes of all `arrays` together."""
    return sum(array.nbytes for array in arrays.values())


class Session(Protocol):
    """A loaded graph."""

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the graph outputs, in order."""

    def run(self, feeds: Mapping[str, Array]) -> Arrays:
        """Compute every output for `feeds` (input name to array); raises RuntimeFailure."""


class Runtime(Protocol):
    """Something that executes ONNX graphs with known numerics."""

    @property
    def name(self) -> str:
        """Library name and version, for reports and cache keys."""

    @property
    def ways(self) -> int:
        """How many runs of one session, each from a thread of its own, are fastest together: at least 1."""

    def load(self, graph: ir.Model | Path, outputs: Sequence[str] = (), ways: int = 1) -> Session:
        """Prepare `graph` for running, with other `outputs` (any tensors computed in it) in place of its own if given.

        Args:
            graph: In memory or a file.
            outputs: Names of the tensors to give; none for the graph's own outputs.
            ways: How many runs are made side by side, which share the threads.

        Raises:
            RuntimeFailure: It cannot be run; the message names the cause.
            KeyError: A name is not a tensor of the graph.
        """


def with_outputs(graph: ir.Model, tensors: Sequence[str]) -> ir.Model:
    """A copy of `graph` whose outputs are `tensors` (computed in it, fed to it or constant), in that order.

    Raises:
        KeyError: A name is not a tensor of the graph.
    """
    clone = graph.clone()
    values = {value.name: value for value in (*clone.graph.inputs, *clone.graph.initializers.values())}
    for node in clone.graph:
        values.update((value.name, value) for value in node.outputs)
    clone.graph.outputs.clear()
    clone.graph.outputs.extend(values[name] for name in tensors)
    return clone
