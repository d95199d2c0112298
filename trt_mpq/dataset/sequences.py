"""Sequences for networks that stream: an output of one step, the state, is an input of the next.

A sample is a sequence then. Its arrays have an axis of steps behind that of the samples, and so has what comes out:
metrics see a network that takes all steps at once. What looks at single runs, calibration above all, gets the steps as
samples of their own, with the states that the FP32 network has there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from trt_mpq.dataset.arrays import load_npz
from trt_mpq.dataset.chunks import chunks
from trt_mpq.dataset.pixels import Pixels
from trt_mpq.dataset.samples import LABELS, Samples, samples_from_arrays
from trt_mpq.dataset.sources import open_samples
from trt_mpq.dataset.steps import Steps, rows_first
from trt_mpq.errors import DataError
from trt_mpq.runtime.base import Array, Arrays, Session
from trt_mpq.types import Model, TensorSpec

_AT_ONCE = 64
"""Sequences that run side by side while their states are recorded; it changes no result."""


def open_data(
    source: str | Path,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    states: Mapping[str, str],
    pixels: Pixels | None = None,
) -> Samples:
    """Samples for a model, as `open_samples` opens them; sequences where it has `states`.

    Args:
        source: As for `open_samples`; sequences are an `.npz` of arrays [sequences, steps, ...]. States that it holds
            are those of the first step, laid out as the model's; they are 0 where it holds none.
        inputs: The model's inputs.
        outputs: Its outputs.
        states: Input to the output that it is at the next step.
        pixels: How the images of a folder become its input.

    Raises:
        DataError: The data is missing, damaged or does not fit the inputs.
        MissingDependencyError: A recipe reads images and Pillow is not installed.
    """
    if not states:
        return open_samples(source, inputs, pixels).giving(outputs)
    if Path(source).suffix != ".npz":
        raise DataError(f"{source}: a network with --states takes sequences, an .npz of arrays [sequences, steps, ...]")
    arrays = load_npz(Path(source))
    labels = None if any(spec.name == LABELS for spec in inputs) else arrays.pop(LABELS, None)
    steps = Steps(
        states,
        {s.name: s.batch_axis for s in inputs if s.name not in states and s.batch_axis is not None},
        {spec.name: spec.batch_axis for spec in outputs if spec.batch_axis},
    )
    count = _sequences({name: arrays[name] for name in steps.inputs if name in arrays}, str(source))
    first = {spec.name: _nothing_yet(spec, count) for spec in inputs if spec.name in states.keys() - arrays.keys()}
    taken = tuple(_in_steps(spec) if spec.name in steps.inputs else spec for spec in inputs)
    return replace(samples_from_arrays({**arrays, **first}, taken, labels, str(source)), steps=steps)


def data_for(model: Model, source: str | Path, pixels: Pixels | None = None) -> Samples:
    """Samples of `source` for a prepared model; raises as `open_data`."""
    return open_data(source, model.inputs, model.outputs, model.states, pixels)


def recorded(sequences: Samples, session: Session, inputs: tuple[TensorSpec, ...]) -> Samples:
    """Every step of `sequences` as a sample of its own, with the states that `session` has come to there.

    Args:
        sequences: What was opened for a model with states.
        session: The model in FP32.
        inputs: Its inputs.

    Raises:
        DataError: A state changes its size from step to step.
        RuntimeFailure: The model does not run.
    """
    steps = sequences.steps
    assert steps is not None
    rows = {spec.name: spec.batch_axis for spec in inputs if spec.batch_axis is not None}
    found: dict[str, list[Array]] = {name: [] for name in rows}
    length = 0
    for chunk in chunks(sequences, _AT_ONCE):
        taken = [feeds for feeds, _ in steps.along(session, chunk.feeds)]
        length = len(taken)
        for name, axis in rows.items():
            entries = [chunk.cut(rows_first(feeds[name], axis)) for feeds in taken]
            if len({entry.shape for entry in entries}) > 1:
                raise DataError(f"state {name!r} changes its size from step to step: its steps cannot be calibrated on")
            found[name].append(np.stack(entries, axis=1).reshape(-1, *entries[0].shape[1:]))
    arrays = {name: np.moveaxis(np.concatenate(parts), 0, rows[name] or 0) for name, parts in found.items()}
    labels = _of_steps(sequences.labels, sequences.count, length)
    samples = samples_from_arrays({**arrays, **sequences.constants}, inputs, labels, sequences.source)
    # States differ in their last bits between machines, and nothing is to be computed anew for that.
    return replace(samples, content=f"steps of {sequences.fingerprint}", output_axes=steps.outputs)


def _of_steps(labels: Array | None, sequences: int, steps: int) -> Array | None:
    """Labels [sequences * steps, ...] of [sequences, steps, ...]; none where they are of whole sequences."""
    if labels is None or labels.shape[1:2] != (steps,):
        return None
    return labels[:sequences].reshape(-1, *labels.shape[2:])


def _sequences(arrays: Arrays, source: str) -> int:
    """How many sequences there are; all arrays of one count have as many steps."""
    for name, array in arrays.items():
        if array.ndim < 2 or array.shape[1] == 0:
            raise DataError(
                f"{source}: array {name!r} has shape {list(array.shape)} and a network with --states takes sequences, "
                "[sequences, steps, ...]"
            )
    lengths = {name: array.shape[1] for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name!r} {length}" for name, length in lengths.items())
        raise DataError(f"{source}: every array needs as many steps, but they differ: {listed}")
    return max((len(array) for array in arrays.values()), default=1)


def _in_steps(spec: TensorSpec) -> TensorSpec:
    """The input as data has it: sequences, steps, and what one row is."""
    rows = spec.shape[spec.batch_axis or 0]
    return replace(spec, shape=(rows, "steps", *spec.row_shape), batch_axis=0)


def _nothing_yet(spec: TensorSpec, count: int) -> Array:
    """The state before the first step of each sequence, all 0."""
    if any(isinstance(size, str) for size in spec.row_shape):
        raise DataError(
            f"state {spec.name!r} has no fixed size ({', '.join(map(str, spec.shape))}): store that of the first step "
            "in the data"
        )
    rows = np.zeros((count, *(int(size) for size in spec.row_shape)), spec.dtype)
    return np.moveaxis(rows, 0, spec.batch_axis or 0)
