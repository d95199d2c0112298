"""Engines of one network that were built on this machine: loaded, timed in turns, inspected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from trt_mpq.engine.handover import CalibratedNetwork
from trt_mpq.engine.inspector import engine_layers
from trt_mpq.engine.profile.side_by_side import time_side_by_side
from trt_mpq.runtime import cuda, nvml
from trt_mpq.runtime.base import Arrays
from trt_mpq.runtime.tensorrt.engine import LoadedEngine
from trt_mpq.settings import EngineOptions
from trt_mpq.types import Observer
from trt_mpq.types.engine import EngineBuild, EngineLayer, Flavour, Platform, ShapeRange, SideBySide


@dataclass(frozen=True)
class BuiltEngines:
    """Where engines lie and how they are timed.

    Each is NAME.plan, beside its network NAME.onnx, its layers NAME.layers.json and NAME.log.

    Attributes:
        folder: The run folder.
        described: The network as it was handed over.
        options: How engines are built and timed.
        platform: This machine.
        shapes: Optimization profile of the dynamic inputs.
        observer: Told of timings.
    """

    folder: Path
    described: CalibratedNetwork
    options: EngineOptions
    platform: Platform
    shapes: Mapping[str, ShapeRange]
    observer: Observer

    def time(self, builds: Mapping[str, EngineBuild], baselines: Sequence[str]) -> SideBySide:
        """Time the built engines in turns on the samples that travel with the run.

        The others are compared with the fastest of `baselines`.
        """
        with (
            self.observer.stage("Timing engines in turns") as progress,
            self.loaded(builds) as engines,
            nvml.conditions(cuda.device().pci_bus_id) as conditions,
        ):
            return time_side_by_side(
                engines, self._inputs(), self.options, batch=self.described.batch, baselines=baselines,
                seed=self.described.seed, progress=progress, conditions=conditions,
            )  # fmt: skip

    def layers(self, build: EngineBuild) -> tuple[EngineLayer, ...]:
        """The layers of an engine that was built."""
        assert build.layers is not None
        return engine_layers((self.folder / build.layers).read_text(encoding="utf-8"), self.described.grouping)

    @contextmanager
    def loaded(self, builds: Mapping[str, EngineBuild]) -> Iterator[dict[str, LoadedEngine]]:
        """The built ones of `builds`, loaded."""
        flavour = self.platform.flavour
        with ExitStack() as stack:
            yield {
                name: stack.enter_context(loaded_engine(self.folder / build.engine, self.options, flavour))
                for name, build in builds.items()
                if build.engine is not None
            }

    def _inputs(self) -> tuple[Arrays, ...]:
        """As many different batches as timing rotates; a small set of samples is repeated to fill them."""
        samples, batch = self.described.samples(self.folder), self.described.batch
        feeds = next(samples.batches(samples.count)).feeds
        starts = range(0, self.options.input_sets * batch, batch)
        return tuple(
            {name: value.take(range(start, start + batch), axis=0, mode="wrap") for name, value in feeds.items()}
            for start in starts
        )


def loaded_engine(
    path: Path, options: EngineOptions, flavour: Flavour = "tensorrt", content: bytes | None = None
) -> LoadedEngine:
    """The engine at `path`, which was built with `options`; `content` is what the file held when it was checked."""
    return LoadedEngine(
        path, options.plugins, version_compatible=options.version_compatible, dla_core=options.dla_core,
        flavour=flavour, content=content,
    )  # fmt: skip
