"""Which tensors of a network it is judged by: outputs that have an entry per sample, or what the user names.

Tails of detectors give boxes, indices and counts whose number depends on the data (NonZero, NonMaxSuppression), and a
difference of those is none. What the shapes of the network do not tell is seen from a few samples.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import onnx_ir as ir

from trt_mpq.dataset import Samples
from trt_mpq.dataset.chunks import chunks, samples_at_once
from trt_mpq.errors import MetricError, SettingsError
from trt_mpq.runtime.base import Array, Runtime
from trt_mpq.types import TensorSpec

_TRIED = 8
"""Samples that are run alone to see whether an output has one size."""
_RAGGED = "its size depends on the data, or no axis that is known (--batch-axis) counts samples"
_CONSTANT = "it is a constant, which no precision changes"
_INTEGERS = "it holds integers, whose differences say nothing"
_STATE = "it is a state, whose errors show in what later steps give"


@dataclass(frozen=True)
class CountedOutputs:
    """The tensors that count.

    Attributes:
        specs: What they are, in order; axis 0 counts samples.
        left_out: Output, or tensor that was asked for, to the reason why it does not count.
    """

    specs: tuple[TensorSpec, ...]
    left_out: Mapping[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(spec.name for spec in self.specs)

    @property
    def notes(self) -> tuple[str, ...]:
        """What does not count, a sentence each."""
        return tuple(f"{name} is not compared: {reason}" for name, reason in self.left_out.items())


def counted_outputs(
    graph: ir.Model, asked: Sequence[str], samples: Samples, runtime: Runtime, batch: int
) -> CountedOutputs:
    """Those of the tensors `asked`, or of all outputs, that have an entry of one size for every sample.

    Unless they are asked for, integers count only where there is nothing else.

    Args:
        graph: The prepared FP32 graph.
        asked: Names of tensors that it computes; empty for its outputs.
        samples: Data to run.
        runtime: Where it runs.
        batch: Rows of the model's batch that evaluations run at once.

    Raises:
        SettingsError: There is no tensor of a name.
        MetricError: No tensor counts.
    """
    values = [_tensor(graph, name) for name in asked] or list(graph.graph.outputs)
    batch_axis = next((value.shape[0] for value in graph.graph.inputs if value.shape), None)
    left_out = {str(value.name): _CONSTANT for value in values if value.is_initializer()}
    known = not samples.steps
    computed = [value for value in values if not value.is_initializer()]
    doubtful = [str(value.name) for value in computed if not (known and _has_known_rows(value, batch_axis))]
    seen = dict(_entries(graph, doubtful, samples, runtime, batch)) if doubtful else {}
    left_out.update((name, _RAGGED) for name, entry in seen.items() if entry is None)
    if not asked:
        left_out.update(_states(values, samples))
    whole = [value for value in values if value.name not in left_out]
    if not asked and any(value.dtype is not None and value.dtype.is_floating_point() for value in whole):
        integers = [value for value in whole if value.dtype is not None and not value.dtype.is_floating_point()]
        left_out.update((str(value.name), _INTEGERS) for value in integers)
    specs = tuple(_spec(value, seen.get(str(value.name))) for value in values if value.name not in left_out)
    if not specs:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise MetricError(f"no output can be compared ({reasons}): name tensors inside the model with --outputs")
    return CountedOutputs(specs, left_out)


def _states(values: Sequence[ir.Value], samples: Samples) -> dict[str, str]:
    """Outputs that are states, unless there is nothing else: later steps show what they are worth."""
    states = samples.steps.states.values() if samples.steps else ()
    names = [str(value.name) for value in values]
    return {name: _STATE for name in names if name in states} if set(names) - set(states) else {}


def _tensor(graph: ir.Model, name: str) -> ir.Value:
    computed = {str(value.name): value for node in graph.graph for value in node.outputs}
    if name not in computed:
        outputs = [str(value.name) for value in graph.graph.outputs]
        close = difflib.get_close_matches(name, computed, n=3) or outputs
        raise SettingsError(
            f"--outputs: the prepared model computes no tensor {name!r}, close are {', '.join(close)}: what fusing and "
            "folding take away has no name there"
        )
    return computed[name]


def _has_known_rows(value: ir.Value, batch: int | ir.SymbolicDim | None) -> bool:
    """Whether the shape says that a tensor has as many rows as the model's batch, each of one size."""
    if value.shape is None or not len(value.shape):
        return False
    rows, *others = value.shape
    named = not isinstance(rows, ir.SymbolicDim) or rows.value is not None
    return named and rows == batch and all(isinstance(size, int) for size in others)


def _entries(
    graph: ir.Model, names: Sequence[str], samples: Samples, runtime: Runtime, batch: int
) -> Iterator[tuple[str, tuple[int, ...] | None]]:
    """Every tensor with the shape of its entry for one sample; None where that is not the same for all samples."""
    session, uncut = runtime.load(graph, samples.running(names)), samples.uncut()
    together = chunks(uncut.take(2), batch) if samples_at_once(samples, batch) > 1 else ()
    found = [
        {name: _entry(value, chunk.batch.size) for name, value in chunk.run(session).items()}
        for chunk in chain(chunks(uncut.take(_TRIED), 1), together)
    ]
    for name in names:
        entries = {entry[name] for entry in found}
        yield name, entries.pop() if len(entries) == 1 else None


def _entry(value: Array, samples: int) -> tuple[int, ...] | None:
    if value.ndim == 0:
        return () if samples == 1 else None
    return value.shape[1:] if len(value) == samples else None


def _spec(value: ir.Value, entry: tuple[int, ...] | None) -> TensorSpec:
    assert value.name is not None
    assert value.dtype is not None
    declared = tuple(size if isinstance(size, int) else size.value or "?" for size in value.shape or ())
    return TensorSpec(value.name, value.dtype.numpy().name, declared if entry is None else ("batch", *entry))
