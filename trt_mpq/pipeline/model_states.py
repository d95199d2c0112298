"""The model of a run at every point of its refinement: prepared, equalized, smoothed, its channels scaled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from trt_mpq.artifacts.stage import Job, Stage, json_kind
from trt_mpq.graph.interface import tell_apart
from trt_mpq.groups import groups_from_model
from trt_mpq.groups.scales import OWN_SCALE_RATIO
from trt_mpq.model import load_graph, model_digest, save_graph
from trt_mpq.pipeline.shapes import TENSOR_SHAPES
from trt_mpq.pipeline.sources import BATCH, CALIBRATION, PREPARED, RUNTIME, SAMPLE_SHAPES
from trt_mpq.refine.awq import scale_channels
from trt_mpq.refine.equalize import equalize
from trt_mpq.refine.recovery import Refinement
from trt_mpq.refine.smooth import smooth
from trt_mpq.settings import Settings
from trt_mpq.types import Model


@dataclass(frozen=True)
class Rescaled:
    """A model on disk whose constants were rescaled.

    Attributes:
        model: The model.
        places: How many pairs of layers, or tensors, were rescaled.
        left: Tensors that were not, each with the reason.
    """

    model: Model
    places: int
    left: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class State:
    """The model at one point of its refinement.

    Attributes:
        model: The model on disk.
        graph: The same in memory.
        lacks: What it is in view of the refinement to come ("unequalized"); empty for the last state.
        made_by: What made it of the state before, and the stage that says how many places it changed; None for the
            first.
        own_scales: How many times smaller than what it joins an operand of a Concat is that has a scale of its own.
    """

    model: Stage[Model]
    graph: Stage[ir.Model]
    lacks: str
    made_by: tuple[Refinement, Stage[Rescaled]] | None = None
    own_scales: float = OWN_SCALE_RATIO

    @property
    def suffix(self) -> str:
        """What stages of a state other than the last carry behind their name."""
        return f".{self.lacks}" if self.lacks else ""

    @property
    def variant(self) -> str:
        """What stages carry behind their name whose outcome goes by other scales than the usual ones."""
        return "" if self.own_scales == OWN_SCALE_RATIO else f"-apart-{self.own_scales:.4g}"


def _graph_of(model: Stage[Model]) -> Stage[ir.Model]:
    return Stage(
        "graph", lambda job: tell_apart(load_graph(job.folder / job[model].path), job[SAMPLE_SHAPES]),
        needs=(model, SAMPLE_SHAPES),
    )  # fmt: skip


_MODEL = Stage("model-value", lambda job: job[PREPARED], needs=(PREPARED,), digest=lambda model: model.sha256)


ORIGINAL = _graph_of(_MODEL)
"""The FP32 graph that every comparison is with."""


_LACKING = {
    Refinement.EQUALIZATION: "unequalized", Refinement.SMOOTHING: "unsmoothed", Refinement.AWQ: "unscaled",
}  # fmt: skip


def states(settings: Settings) -> tuple[State, ...]:
    """The prepared model and what was asked to be made of it, in order; plans are made of the last."""
    asked = {
        Refinement.EQUALIZATION: settings.equalize,
        Refinement.SMOOTHING: settings.smooth,
        Refinement.AWQ: bool(settings.scaled_by_awq),
    }
    steps = [step for step, wanted in asked.items() if wanted]
    first, *others = [*(_LACKING[step] for step in steps), ""]
    found = [State(_MODEL, ORIGINAL, first)]
    for step, lacks in zip(steps, others, strict=True):
        stage = _RESCALED[step](found[-1].graph)
        model = _model_of(stage)
        found.append(State(model, _graph_of(model), lacks, (step, stage)))
    return tuple(found)


def _model_of(rescaled: Stage[Rescaled]) -> Stage[Model]:
    return Stage("model-value", lambda job: job[rescaled].model, needs=(rescaled,), digest=lambda model: model.sha256)


def _equalized(before: Stage[ir.Model]) -> Stage[Rescaled]:
    def make(job: Job) -> Rescaled:
        graph, pairs = equalize(job[before], groups_from_model(job[before], job[TENSOR_SHAPES]))
        return Rescaled(_saved(job, graph, "equalized.onnx"), len(pairs))

    return Stage(
        "equalized", make, json_kind(Rescaled), needs=(before, PREPARED, TENSOR_SHAPES), files=_files("equalized.onnx")
    )


def _smoothed(before: Stage[ir.Model]) -> Stage[Rescaled]:
    def make(job: Job) -> Rescaled:
        found = smooth(
            job[before], job[TENSOR_SHAPES], job[CALIBRATION], job[RUNTIME], job.settings.smooth_alpha, job[BATCH],
            job.progress,
        )  # fmt: skip
        return Rescaled(_saved(job, found.graph, "smoothed.onnx"), len(found.tensors), found.left)

    return Stage(
        "smoothed", make, json_kind(Rescaled), needs=(before, PREPARED, TENSOR_SHAPES, CALIBRATION, RUNTIME),
        reads=("smooth_alpha",), uses=(BATCH,), files=_files("smoothed.onnx"), title="Smoothing",
    )  # fmt: skip


def _scaled(before: Stage[ir.Model]) -> Stage[Rescaled]:
    def make(job: Job) -> Rescaled:
        found = scale_channels(
            job[before], job[TENSOR_SHAPES], job[CALIBRATION], job[RUNTIME], job.settings.scaled_by_awq,
            job.settings.top, job[BATCH], job.progress,
        )  # fmt: skip
        return Rescaled(_saved(job, found.graph, "awq.onnx"), len(found.tensors), found.left)

    return Stage(
        "scaled", make, json_kind(Rescaled), needs=(before, PREPARED, TENSOR_SHAPES, CALIBRATION, RUNTIME),
        reads=("scaled_by_awq", "top"), uses=(BATCH,), files=_files("awq.onnx"), title="Scaling channels by AWQ",
    )  # fmt: skip


_RESCALED: dict[Refinement, Callable[[Stage[ir.Model]], Stage[Rescaled]]] = {
    Refinement.EQUALIZATION: _equalized, Refinement.SMOOTHING: _smoothed, Refinement.AWQ: _scaled,
}  # fmt: skip


def _files(name: str) -> tuple[str, str]:
    """A model's file, and that of its weights where it is large."""
    return name, f"{name}.data"


def _saved(job: Job, graph: ir.Model, name: str) -> Model:
    """The model that `graph` is, written to the file called `name`."""
    path = job.path(name)
    save_graph(graph, path)
    return replace(job[PREPARED], path=path.name, sha256=model_digest(path))
