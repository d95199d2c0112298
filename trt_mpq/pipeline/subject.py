"""What a run is about: the model, made ready, and its data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial

import onnx_ir as ir

from trt_mpq.artifacts.stages import Stages
from trt_mpq.artifacts.storage import sha256_of
from trt_mpq.groups import groups_from_model
from trt_mpq.model import load_graph, prepare_model, save_graph
from trt_mpq.pipeline.inputs import Data
from trt_mpq.pipeline.keys import equalization_key, preparation_key, smoothing_key
from trt_mpq.refine.equalize import Equalized, equalize
from trt_mpq.refine.recovery import equalization_record, smoothing_record
from trt_mpq.refine.smooth import Smoothed, SmoothingInputs, smooth
from trt_mpq.runtime.base import Runtime
from trt_mpq.settings import Settings
from trt_mpq.types import Model, Precision, RefinementRecord
from trt_mpq.types.observer import Progress


@dataclass(frozen=True)
class State:
    """The model at one point of its refinement, and its graph in memory.

    `lacks` says what it is in view of the refinement to come ("unequalized"); it is empty for the last state.
    """

    model: Model
    graph: ir.Model
    lacks: str

    @property
    def suffix(self) -> str:
        """What stages and files of a state other than the last carry behind their name."""
        return f".{self.lacks}" if self.lacks else ""


@dataclass(frozen=True)
class Change:
    """A refinement of the model itself; `record` tells what it did to a plan's score, before and after."""

    before: State
    after: State
    record: Callable[[Precision, float, float], RefinementRecord]


class Subject:
    """The model of a run in its states (prepared, equalized, smoothed), and the data opened for it.

    Args:
        settings: What the user asked for.
        source_sha256: Digest of the model file.
        stages: Keep what is computed here.
        runtime: Where the model runs to be smoothed.
    """

    def __init__(self, settings: Settings, source_sha256: str, stages: Stages, runtime: Runtime) -> None:
        self._settings, self._source, self._stages, self._runtime = settings, source_sha256, stages, runtime

    @cached_property
    def data(self) -> Data:
        """The calibration and evaluation data."""
        return Data(self._settings, self.prepared)

    @cached_property
    def prepared(self) -> Model:
        """The model checked and folded."""
        return self._stages.value(
            "prepare", preparation_key(self._source), "model.json", Model,
            lambda _: prepare_model(self._settings.model, self._stages.path("model.onnx")),
            others=("model.onnx", "model.onnx.data"),
        )  # fmt: skip

    @cached_property
    def original(self) -> ir.Model:
        """Its graph, which every comparison is with."""
        return self._graph(self.prepared)

    @cached_property
    def final(self) -> State:
        """The model that plans are made of: equalized and smoothed if that was asked for."""
        return State(self._smoothed.model, self._graph(self._smoothed.model), "") if self._smooths else self._unsmoothed

    @property
    def changes(self) -> Iterator[Change]:
        """What was asked for, in order."""
        if self._settings.equalize:
            record = partial(equalization_record, pairs=len(self._equalized.pairs))
            yield Change(self._unequalized, self._unsmoothed, record)
        if self._smooths:
            yield Change(self._unsmoothed, self.final, partial(smoothing_record, tensors=len(self._smoothed.tensors)))

    @property
    def _smooths(self) -> bool:
        return self._settings.smooth

    @cached_property
    def _unequalized(self) -> State:
        return State(self.prepared, self.original, "unequalized")

    @cached_property
    def _unsmoothed(self) -> State:
        """The model before smoothing, which is the last state without it."""
        lacks = "unsmoothed" if self._smooths else ""
        if not self._settings.equalize:
            return State(self.prepared, self.original, lacks)
        return State(self._equalized.model, self._graph(self._equalized.model), lacks)

    @cached_property
    def _equalized(self) -> Equalized:
        """The prepared model with its weight ranges equalized."""

        def compute(_: Progress) -> Equalized:
            graph, pairs = equalize(self.original, groups_from_model(self.original, self.data.sample_shapes))
            return Equalized(self._saved(graph, "equalized.onnx"), pairs)

        return self._stages.value(
            "equalize", equalization_key(self.prepared, self.data), "equalized.json", Equalized, compute,
            others=("equalized.onnx", "equalized.onnx.data"),
        )  # fmt: skip

    @cached_property
    def _smoothed(self) -> Smoothed:
        """The model before it with outliers of its activations moved into weights."""
        before = self._unsmoothed

        def compute(progress: Progress) -> Smoothed:
            given = SmoothingInputs(
                before.graph, self.data.sample_shapes, self.data.calibration, self._runtime,
                self._settings.smooth_alpha, self.data.batch,
            )  # fmt: skip
            graph, tensors = smooth(given, progress)
            return Smoothed(self._saved(graph, "smoothed.onnx"), tensors)

        return self._stages.value(
            "smooth", smoothing_key(before.model, self._settings, self.data, self._runtime.name), "smoothed.json",
            Smoothed, compute, others=("smoothed.onnx", "smoothed.onnx.data"), title="Smoothing",
        )  # fmt: skip

    def _graph(self, model: Model) -> ir.Model:
        return load_graph(self._stages.path(model.path))

    def _saved(self, graph: ir.Model, name: str) -> Model:
        """The model that `graph` is, written to the file called `name`."""
        path = self._stages.path(name)
        save_graph(graph, path)
        return replace(self.prepared, path=path.name, sha256=sha256_of(path))
