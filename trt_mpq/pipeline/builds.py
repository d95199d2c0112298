"""Plans of a calibrated network as engines on this machine: emitted, and built in a process of their own."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from trt_mpq.artifacts.stage import Job, Stage, json_kind
from trt_mpq.artifacts.store import Store
from trt_mpq.emit import Emitter
from trt_mpq.engine.build import build_engine
from trt_mpq.engine.for_machine import constraints_for, graph_for, request_on, typing_on
from trt_mpq.engine.handover import CalibratedNetwork
from trt_mpq.engine.shipping import ENGINE_FOLDER
from trt_mpq.engine.timing import BuiltEngines
from trt_mpq.errors import ModelError, TrtMpqError
from trt_mpq.model import save_graph
from trt_mpq.runtime.tensorrt.request import shape_ranges
from trt_mpq.settings import EngineOptions
from trt_mpq.types import Precision, PrecisionPlan
from trt_mpq.types.engine import BuildStatus, EngineBuild, Platform, ShapeRange, Typing


@dataclass(frozen=True)
class Emitted:
    """A plan as a network for this machine's TensorRT.

    Attributes:
        typing: How precision reaches the builder.
        constraints: Precision of the nodes that the builder is told one for; none where the network's types say it.
        shapes: Optimization profile of the dynamic inputs.
        refusal: Why this GPU or this TensorRT cannot have it; empty if it can.
    """

    typing: Typing
    constraints: Mapping[str, Precision]
    shapes: Mapping[str, ShapeRange]
    refusal: str = ""


@dataclass(frozen=True)
class Builds:
    """Builds engines of plans.

    Attributes:
        described: The network.
        emitter: Writes plans of it.
        gpu: This machine, or why it can build nothing.
        folder: Where they go in the run folder.
    """

    described: Stage[CalibratedNetwork]
    emitter: Stage[Emitter]
    gpu: Stage[Platform | TrtMpqError]
    folder: str

    def emitted(self, name: str, plan: PrecisionPlan) -> Stage[Emitted]:
        """The network of `plan`, for TensorRT as it is here."""
        network = f"{self.folder}/{name}.onnx"

        def make(job: Job) -> Emitted:
            emitter, options = job[self.emitter], job.settings.engine
            through = options.through
            typing = typing_on(_platform(job[self.gpu]), options)
            shapes = shapes_of(job[self.described], options.shapes)
            try:
                if typing == "strong":
                    _require_gpu_for(emitter.precisions(plan), job[self.gpu], job[self.described].precisions)
                save_graph(graph_for(typing, emitter, plan), job.path(network))
            except ModelError as error:
                return Emitted(typing, {}, shapes, str(error))
            return Emitted(typing, constraints_for(typing, emitter, plan, through), shapes)

        return Stage(
            f"{self.folder}/{name}-network", make, json_kind(Emitted), needs=(self.emitter, self.described, self.gpu),
            reads=("engine.typing", "engine.shapes", "engine.through"), constants=(plan,),
            files=(network, f"{network}.data"),
        )  # fmt: skip

    def built(self, name: str, plan: PrecisionPlan) -> Stage[EngineBuild]:
        """The engine of `plan`, or why there is none; a build that failed is tried again when it is asked for again.

        What it depends on is the network, whatever plan that came from: the same one is not built twice.
        """
        emitted, stem = self.emitted(name, plan), f"{self.folder}/{name}"

        def make(job: Job) -> EngineBuild:
            network, options = job[emitted], job.settings.engine
            if network.refusal:
                build = EngineBuild(BuildStatus.FAILED, network.typing, 0.0, reason=network.refusal)
            else:
                request = request_on(
                    _platform(job[self.gpu]), job.path(f"{stem}.onnx"), network.typing, network.constraints,
                    network.shapes, options, timing_cache_of(options, job.folder),
                )  # fmt: skip
                with job.observer.stage(f"Building the {name} engine"):
                    build = build_engine(request, job.path(f"{stem}.plan").parent)
            if not build.built:
                job.observer.note(f"no {name} engine: {build.reason}")
                return build
            return replace(build, engine=f"{stem}.plan", layers=f"{stem}.layers.json")

        return Stage(
            stem, make, json_kind(EngineBuild), needs=(emitted, self.gpu), reads=OF_ENGINE, uses=("engine",),
            files=(f"{stem}.plan", f"{stem}.layers.json"), holds=lambda build, job: build.built,
        )  # fmt: skip


def plain_builds(described: Stage[CalibratedNetwork], gpu: Stage[Platform | TrtMpqError]) -> Builds:
    """Builds engines of plans as they are, with no refinement."""
    emitter = Stage("plain-emitter", lambda job: job[described].network(job.folder).emitter(), needs=(described,))
    return Builds(described, emitter, gpu, f"{ENGINE_FOLDER}/builds")


def built_engines(
    run: Store | Job, described: Stage[CalibratedNetwork], gpu: Stage[Platform | TrtMpqError]
) -> BuiltEngines:
    """What times and inspects the engines that were built of a network; there is a GPU."""
    platform, network, options = run[gpu], run[described], run.settings.engine
    assert isinstance(platform, Platform)
    return BuiltEngines(run.folder, network, options, platform, shapes_of(network, options.shapes), run.observer)


def timing_cache_of(options: EngineOptions, folder: Path) -> Path:
    """Folder of timing caches: that of the options, or one in the run folder."""
    return options.timing_cache or folder / ENGINE_FOLDER / "timing"


OF_ENGINE = tuple(f"engine.{name}" for name in EngineOptions().of_engine())
"""The options that an engine depends on."""


def shapes_of(described: CalibratedNetwork, given: tuple[str, ...]) -> dict[str, ShapeRange]:
    """The optimization profile of a network; raises SettingsError if the shapes that are `given` do not fit it."""
    return shape_ranges(described.model.inputs, described.sample_shapes, described.batch, given)


def _platform(gpu: Platform | TrtMpqError) -> Platform:
    assert isinstance(gpu, Platform)  # nothing is built where there is none
    return gpu


def _require_gpu_for(held: Iterable[Precision], gpu: Platform | TrtMpqError, asked: Container[Precision]) -> None:
    """Raise ModelError if the GPU has no arithmetic for one of the precisions `held`."""
    gpu = _platform(gpu)
    for precision in held:
        if gpu.sm < (first := precision.spec.first_sm):
            other = f"for a --device that has no {precision.name} either"
            raise ModelError(
                f"{precision.name} needs a GPU of compute capability {first / 10:.1f} or later, {gpu.gpu} has "
                f"{gpu.sm / 10:.1f}: search {f'without {precision}' if precision in asked else other}"
            )
