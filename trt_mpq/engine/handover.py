"""What one half of a run hands to the other: all that building and timing engines takes, without data or model file.

A search on a workstation and an engine build on a Jetson are two halves of one run. The first writes these values
into the run folder, beside the graph (`model.onnx`), the refinements and a few samples; the second needs nothing
else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trt_mpq.artifacts.files import write_arrays
from trt_mpq.artifacts.stage import Job, Stage, json_kind
from trt_mpq.artifacts.store import read_given
from trt_mpq.dataset import Samples, open_samples
from trt_mpq.emit import Emitter, Network, Own, Refinements, Roundings
from trt_mpq.errors import RunFolderError
from trt_mpq.graph.interface import tell_apart
from trt_mpq.model import load_graph
from trt_mpq.refine.files import (
    PLAN_CORRECTIONS,
    WEIGHTS,
    corrections_from_file,
    roundings_from_file,
    weights_from_file,
)
from trt_mpq.types import Grouping, Model, Precision, Ranges, Score, SearchResult, TensorSpec

SAMPLES = "samples.npz"
"""The samples that travel with a run."""
_CORRECTIONS, _PLAN_ROUNDINGS = "corrections.npz", "roundings-plan.npz"
"""Bias corrections measured under uniform plans, and roundings learned under exactly the chosen one."""
_SAMPLE_BYTES = 16 << 20


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
        graph = tell_apart(load_graph(folder / self.model.path), self.sample_shapes)
        return Network(self.model, graph, self.grouping, self.ranges)

    def samples(self, folder: Path) -> Samples:
        """The samples that travel with the run."""
        return open_samples(folder / SAMPLES, self.original.inputs).giving(self.original.outputs)


@dataclass(frozen=True)
class Searched:
    """What the search found, and what an engine has to live up to.

    Attributes:
        result: The plans that were tried and the chosen one.
        corrected: Precisions whose groups have corrected biases.
        rounded: Precisions whose weights have learned roundings.
        own: Digest of the plan that has corrections of its own, None if none has.
        own_rounded: Whether it has roundings of its own too.
        weights: Whether weights have codes and scales that were found for them.
        refinements: Digest of all that is refined, which lies in files.
        evaluated_on: What tells the evaluation data and the metric from others.
        metric: Task metric.
        outputs: The tensors that it judges by, and that are compared.
        fp32: Task score of the original model.
        required: Least task score of a plan.
    """

    result: SearchResult
    corrected: tuple[Precision, ...]
    metric: str
    outputs: tuple[TensorSpec, ...]
    fp32: Score
    required: float
    rounded: tuple[Precision, ...] = ()
    own: str | None = None
    own_rounded: bool = False
    refinements: str = ""
    evaluated_on: str = ""
    weights: bool = False

    @classmethod
    def of(
        cls,
        result: SearchResult,
        delivered: Refinements,
        metric: str,
        outputs: tuple[TensorSpec, ...],
        fp32: Score,
        required: float,
        evaluated_on: str,
    ) -> Searched:
        """What was found, with the refinements under which the run delivers it."""
        corrected, rounded = (
            tuple(sorted({precision for _, precision in keys})) for keys in (delivered.corrections, delivered.roundings)
        )
        own = next(iter(delivered.own), None)
        own_rounded = own is not None and delivered.own[own].roundings is not None
        return cls(
            result, corrected, metric, outputs, fp32, required, rounded, own, own_rounded, delivered.digest,
            evaluated_on, bool(delivered.weights),
        )  # fmt: skip

    def emitter(self, network: Network, folder: Path) -> Emitter:
        """Writes plans of `network` as the search scored them."""
        return network.emitter(self._refinements(folder))

    @property
    def files(self) -> tuple[str, ...]:
        """What `emitter` reads from the run folder beside the network."""
        corrections = [_CORRECTIONS] if self.corrected else []
        own = [PLAN_CORRECTIONS] * (self.own is not None) + [_PLAN_ROUNDINGS] * self.own_rounded
        weights = [WEIGHTS] * self.weights
        return (*corrections, *(f"roundings-{precision}.npz" for precision in self.rounded), *own, *weights)

    def _refinements(self, folder: Path) -> Refinements:
        corrections = corrections_from_file(folder / _CORRECTIONS) if self.corrected else {}
        files = (roundings_from_file(folder / f"roundings-{precision}.npz") for precision in self.rounded)
        roundings = {key: up for found in files for key, up in found.items()}
        found = Refinements(
            {key: delta for key, delta in corrections.items() if key[1] in self.corrected},
            roundings,
            {self.own: self._own(folder, roundings)} if self.own else {},
            weights_from_file(folder / WEIGHTS) if self.weights else {},
        )
        if found.digest != self.refinements:
            raise RunFolderError(
                f"the files {', '.join(self.files)} in {folder} are not those of the search: run `trt-mpq "
                f"{GIVEN[SEARCHED.name]} {folder}` first"
            )
        return found

    def _own(self, folder: Path, shared: Roundings) -> Own:
        own = {**shared, **roundings_from_file(folder / _PLAN_ROUNDINGS)} if self.own_rounded else None
        return Own(corrections_from_file(folder / PLAN_CORRECTIONS), own)


def write_leading_samples(samples: Samples, path: Path) -> None:
    """Write the first rows of `samples`, as many as are no more than 16 MiB, which travel with a run."""
    rows = samples.single_rows()
    first = next(rows.batches(1)).feeds
    fitting = max(1, _SAMPLE_BYTES // max(1, sum(value.nbytes for value in first.values())))
    write_arrays(next(rows.batches(fitting, limit=fitting)).feeds, path)


def _never(job: Job) -> Any:
    raise AssertionError("the other half of the run makes it")


DESCRIBED: Stage[CalibratedNetwork] = Stage("network", _never, json_kind(CalibratedNetwork), files=(SAMPLES,))
"""The calibrated network, as it lies in the run folder."""
SEARCHED: Stage[Searched] = Stage("searched", _never, json_kind(Searched))
"""What the search found, as it lies there."""
GIVEN = {DESCRIBED.name: "calibrate", SEARCHED.name: "search"}
"""What the device half takes as it lies, to the command that makes it."""


def read_network(folder: Path) -> CalibratedNetwork:
    """The calibrated network of a run folder; raises RunFolderError."""
    return read_given(DESCRIBED, folder, GIVEN[DESCRIBED.name])


def read_searched(folder: Path) -> Searched:
    """What the search of a run folder found; raises RunFolderError."""
    return read_given(SEARCHED, folder, GIVEN[SEARCHED.name])
