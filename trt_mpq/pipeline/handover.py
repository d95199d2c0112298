"""What one half of a run hands to the other: all that building and timing engines takes, without data or model file.

A search on a workstation and an engine build on a Jetson are two halves of one run. The first writes these values
into the run folder, beside the graph (`model.onnx`), the refinements and a few samples; the second needs nothing
else.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from pydantic import ValidationError

from trt_mpq.artifacts.storage import atomic_path, from_json, to_stored_json, write_text
from trt_mpq.dataset import Samples, open_samples
from trt_mpq.emit import Emitter, Own, Refinements, Roundings
from trt_mpq.emit.network import Network
from trt_mpq.errors import RunFolderError
from trt_mpq.model import load_graph
from trt_mpq.refine.storage import (
    CORRECTIONS,
    PLAN_CORRECTIONS,
    PLAN_ROUNDINGS,
    corrections_from_file,
    roundings_file,
    roundings_from_file,
    roundings_over,
)
from trt_mpq.runtime.base import Array
from trt_mpq.types import Grouping, Model, Precision, Ranges, Score, SearchResult

T = TypeVar("T")
NETWORK, SEARCHED, SAMPLES = "network.json", "searched.json", "samples.npz"
_SAMPLE_BYTES = 16 << 20
"""Samples that travel with a run take no more than this."""


@dataclass(frozen=True)
class CalibratedNetwork:
    """A calibrated network, ready to be emitted in any plan.

    Attributes:
        model: The prepared (perhaps equalized or smoothed) model; its path is relative to the run folder.
        original: The prepared FP32 model, which engines are compared with.
        grouping: Its groups, with what calibration forbids.
        ranges: Its ranges.
        batch: Samples per inference.
        counted_batches: How many times `batch` holds the samples that group counts hold for.
        sample_shapes: Shape of one sample per input, batch axis included.
        precisions: The ladder that is searched.
        mix_formats: Whether one plan may hold FP8 and INT8.
        seed: Seed of every random draw.
    """

    model: Model
    original: Model
    grouping: Grouping
    ranges: Ranges
    batch: int
    counted_batches: int
    sample_shapes: Mapping[str, tuple[int, ...]]
    precisions: tuple[Precision, ...]
    mix_formats: bool
    seed: int

    def network(self, folder: Path) -> Network:
        """The network with its graph, read from the run folder."""
        return Network(self.model, load_graph(folder / self.model.path), self.grouping, self.ranges)

    def samples(self, folder: Path) -> Samples:
        """The samples that travel with the run."""
        return open_samples(folder / SAMPLES, self.original.inputs)


@dataclass(frozen=True)
class Searched:
    """What the search found, and what an engine has to live up to.

    Attributes:
        result: The plans that were tried and the chosen one.
        corrected: Precisions whose groups have corrected biases.
        rounded: Precisions whose weights have learned roundings.
        own: Digest of the plan that has corrections of its own, None if none has.
        own_rounded: Whether it has roundings of its own too.
        marks: What refinement adds to the chosen plan, in words for a key.
        metric: Task metric.
        fp32: Task score of the original model.
        required: Least task score of a plan.
    """

    result: SearchResult
    corrected: tuple[Precision, ...]
    metric: str
    fp32: Score
    required: float
    rounded: tuple[Precision, ...] = ()
    own: str | None = None
    own_rounded: bool = False
    marks: tuple[str, ...] = ()

    @classmethod
    def of(cls, result: SearchResult, delivered: Refinements, metric: str, fp32: Score, required: float) -> Searched:
        """What was found, with the refinements under which the run delivers it."""
        corrected, rounded = (
            tuple(sorted({precision for _, precision in keys})) for keys in (delivered.corrections, delivered.roundings)
        )
        own, marks = next(iter(delivered.own), None), delivered.marks(result.chosen.plan)
        own_rounded = own is not None and delivered.own[own].roundings is not None
        return cls(result, corrected, metric, fp32, required, rounded, own, own_rounded, marks)

    def emitter(self, network: Network, folder: Path) -> Emitter:
        """Writes plans of `network` as the search scored them."""
        return network.emitter(self._refinements(folder))

    @property
    def files(self) -> tuple[str, ...]:
        """What `emitter` reads from the run folder beside the network."""
        corrections = [CORRECTIONS] if self.corrected else []
        own = [PLAN_CORRECTIONS] * (self.own is not None) + [PLAN_ROUNDINGS] * self.own_rounded
        return (*corrections, *map(roundings_file, self.rounded), *own)

    def _refinements(self, folder: Path) -> Refinements:
        corrections = corrections_from_file(folder / CORRECTIONS) if self.corrected else {}
        files = (roundings_from_file(folder / roundings_file(precision)) for precision in self.rounded)
        roundings = {key: up for found in files for key, up in found.items()}
        return Refinements(
            {key: delta for key, delta in corrections.items() if key[1] in self.corrected},
            roundings,
            {self.own: self._own(folder, roundings)} if self.own else {},
        )

    def _own(self, folder: Path, shared: Roundings) -> Own:
        own = roundings_over(shared, folder / PLAN_ROUNDINGS) if self.own_rounded else None
        return Own(corrections_from_file(folder / PLAN_CORRECTIONS), own)


def write_network(network: CalibratedNetwork, samples: Samples, folder: Path) -> None:
    """Write `network` and the first rows of `samples` into the run folder."""
    _write_samples(samples.single_rows(), folder / SAMPLES)
    write_text(folder / NETWORK, to_stored_json(network, CalibratedNetwork))


def write_arrays(arrays: Mapping[str, Array], path: Path) -> None:
    """Write an `.npz`, atomically; raises RunFolderError. `numpy.savez` has no place for an array called "file"."""
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def read_network(folder: Path) -> CalibratedNetwork:
    """What `write_network` wrote; raises RunFolderError."""
    return _read(folder / NETWORK, CalibratedNetwork, f"run `trt-mpq calibrate {folder}` first")


def read_searched(folder: Path) -> Searched:
    """The outcome of the search in the run folder; raises RunFolderError."""
    return _read(folder / SEARCHED, Searched, f"run `trt-mpq search {folder}` first")


def _read(path: Path, kind: type[T], remedy: str) -> T:
    if not path.is_file():
        raise RunFolderError(f"{path} is missing: {remedy}")
    try:
        return from_json(path.read_bytes(), kind)
    except ValidationError as error:
        raise RunFolderError(f"{path} is damaged or from another version: {remedy}") from error


def _write_samples(samples: Samples, path: Path) -> None:
    first = next(samples.batches(1)).feeds
    fitting = max(1, _SAMPLE_BYTES // max(1, sum(value.nbytes for value in first.values())))
    batch = next(samples.batches(fitting, limit=fitting))
    write_arrays(batch.feeds, path)
