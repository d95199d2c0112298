"""Plans of one network as engines on this machine: emitted, built in a process of their own, timed, inspected.

The composition root of the device half; `deploy.py` and `probe.py` say which plans. Builds are kept in the run
folder and found again by what they were made from, so that an interrupted session goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import onnx_ir as ir
from pydantic import ValidationError

from trt_mpq.artifacts.storage import cannot_write, from_json, key_of, sha256_of, to_stored_json, write_text
from trt_mpq.emit import Emitter
from trt_mpq.emit.network import Network
from trt_mpq.engine.build import build_engine
from trt_mpq.engine.inspector import engine_layers
from trt_mpq.engine.profile.side_by_side import time_side_by_side
from trt_mpq.errors import ModelError, RunFolderError
from trt_mpq.latency.target import FIRST_SM
from trt_mpq.model import model_digest, save_graph
from trt_mpq.pipeline.handover import CalibratedNetwork
from trt_mpq.runtime import cuda, nvml
from trt_mpq.runtime.base import Arrays
from trt_mpq.runtime.tensorrt.api import capabilities, resolve_typing
from trt_mpq.runtime.tensorrt.engine import LoadedEngine
from trt_mpq.runtime.tensorrt.request import BuildRequest, shape_ranges
from trt_mpq.settings import EngineOptions
from trt_mpq.types import Precision, PrecisionPlan
from trt_mpq.types.engine import BuildStatus, EngineBuild, EngineLayer, Platform, ShapeRange, SideBySide, Typing
from trt_mpq.types.observer import Observer

ENGINE_FOLDER = "engine"
_BUILDS = f"{ENGINE_FOLDER}/builds"


@dataclass(frozen=True)
class _KeptBuild:
    """A finished build and what it was made from."""

    key: str
    engine_sha256: str
    build: EngineBuild


class Workshop:
    """Builds and times plans of one network.

    Args:
        described: The network as it was handed over.
        network: The same with its graph.
        emitter: Writes its plans.
        options: How to build and time.
        folder: The run folder.
        platform: This machine.
        observer: Told of builds and timings.
    """

    def __init__(
        self,
        described: CalibratedNetwork,
        network: Network,
        emitter: Emitter,
        options: EngineOptions,
        folder: Path,
        platform: Platform,
        observer: Observer,
    ) -> None:
        self.described, self.network, self.options, self.platform = described, network, options, platform
        self.folder, self._emitter, self._observer = folder, emitter, observer
        self.typing: Typing = resolve_typing(options.typing, capabilities())
        self.shapes: dict[str, ShapeRange] = shape_ranges(
            described.model.inputs, described.sample_shapes, described.batch, options.shapes
        )

    def path(self, name: str) -> Path:
        """The file `name` of a build."""
        return self.folder / _BUILDS / name

    def build(self, name: str, plan: PrecisionPlan) -> EngineBuild:
        """The engine of `plan`, or why there is none; its files are called after `name`.

        Raises:
            RunFolderError: A file cannot be written.
            MissingDependencyError: TensorRT or pycuda is absent.
        """
        try:
            self.path(name).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFolderError(cannot_write(self.path(name), error)) from error
        try:
            self._emit(name, plan)
        except ModelError as error:
            return self._told(name, EngineBuild(BuildStatus.FAILED, self.typing, 0.0, reason=str(error)))
        request = BuildRequest(
            onnx=str(self.path(f"{name}.onnx")), engine=str(self.path(f"{name}.plan")), typing=self.typing,
            constraints=self.constraints(plan), shapes=self.shapes, options=self.options,
            timing_cache=str(self._timing_cache()),
        )  # fmt: skip
        key = key_of(
            model_digest(self.path(f"{name}.onnx")), request.typing, request.constraints, request.shapes,
            self.options.of_engine(), self.platform,
        )  # fmt: skip
        kept = self._kept(name, key)
        if kept is not None:
            return kept
        with self._observer.stage(f"Building the {name} engine"):
            build = build_engine(request, self.path(name).parent)
        if build.built:
            record = _KeptBuild(key, sha256_of(self.path(f"{name}.plan")), build)
            write_text(self.path(f"{name}.json"), to_stored_json(record, _KeptBuild))
        return self._told(name, build)

    def time(self, builds: Mapping[str, EngineBuild], baseline: str) -> SideBySide:
        """Time the built engines in turns on the samples that travel with the run."""
        with self._observer.stage("Timing engines in turns") as progress, self.loaded(builds) as engines:
            return time_side_by_side(
                engines, self._inputs(), self.options, batch=self.described.batch, baseline=baseline,
                seed=self.described.seed, progress=progress,
                conditions=partial(nvml.conditions, cuda.device().pci_bus_id),
            )  # fmt: skip

    def layers(self, name: str) -> tuple[EngineLayer, ...]:
        """The layers of the engine called `name`."""
        text = self.path(f"{name}.layers.json").read_text(encoding="utf-8")
        return engine_layers(text, self.described.grouping)

    @contextmanager
    def loaded(self, builds: Mapping[str, EngineBuild]) -> Iterator[dict[str, LoadedEngine]]:
        """The built ones of `builds`, loaded."""
        with ExitStack() as stack:
            yield {
                name: stack.enter_context(loaded_engine(self.path(f"{name}.plan"), self.options))
                for name, build in builds.items()
                if build.built
            }

    def constraints(self, plan: PrecisionPlan) -> dict[str, Precision]:
        """Precision of the nodes that the builder is told one for; none where the network's types say it."""
        return self._emitter.constraints(plan) if self.typing == "weak" else {}

    def _emit(self, name: str, plan: PrecisionPlan) -> None:
        """Write the network of `plan`; raises ModelError if this GPU or this TensorRT cannot have it."""
        emitted = self._emitter.weak(plan) if self.typing == "weak" else self._strong(plan)
        network = self.path(f"{name}.onnx")
        data_file(network).unlink(missing_ok=True)  # an earlier plan of this name may have been larger
        save_graph(emitted, network)

    def _strong(self, plan: PrecisionPlan) -> ir.Model:
        held = self._emitter.precisions(plan)
        for precision, first in FIRST_SM.items():
            if precision in held and self.platform.sm < first:
                asked = precision in self.described.precisions
                remedy = f"without {precision}" if asked else f"for a --device that has no {precision.name} either"
                raise ModelError(
                    f"{precision.name} needs a GPU of compute capability {first / 10:.1f} or later, "
                    f"{self.platform.gpu} has {self.platform.sm / 10:.1f}: search {remedy}"
                )
        return self._emitter.strong(plan)

    def _told(self, name: str, build: EngineBuild) -> EngineBuild:
        """`build`, the user told of it if it failed."""
        if not build.built:
            self._observer.note(f"no {name} engine: {build.reason}")
        return build

    def _kept(self, name: str, key: str) -> EngineBuild | None:
        record, engine, layers = (self.path(f"{name}{suffix}") for suffix in (".json", ".plan", ".layers.json"))
        if not (record.is_file() and engine.is_file() and layers.is_file()):
            return None
        try:
            kept = from_json(record.read_bytes(), _KeptBuild)
        except ValidationError:  # cut short, or of another version: built again
            return None
        return kept.build if kept.key == key and kept.engine_sha256 == sha256_of(engine) else None

    def _timing_cache(self) -> Path:
        return self.options.timing_cache or self.folder / ENGINE_FOLDER / "timing"

    def _inputs(self) -> tuple[Arrays, ...]:
        """As many different batches as timing rotates; a small set of samples is repeated to fill them."""
        samples, batch = self.described.samples(self.folder), self.described.batch
        feeds = next(samples.batches(samples.count)).feeds
        starts = range(0, self.options.input_sets * batch, batch)
        return tuple(
            {name: value.take(range(start, start + batch), axis=0, mode="wrap") for name, value in feeds.items()}
            for start in starts
        )


def data_file(network: Path) -> Path:
    """Where the weights of a large network lie, beside the ONNX file that names them."""
    return network.with_name(f"{network.name}.data")


def loaded_engine(path: Path, options: EngineOptions, content: bytes | None = None) -> LoadedEngine:
    """The engine at `path`, which was built with `options`; `content` is what the file held when it was checked."""
    return LoadedEngine(
        path, options.plugins, version_compatible=options.version_compatible, dla_core=options.dla_core,
        content=content,
    )  # fmt: skip
