"""Engines of plans of a searched run folder, built and timed on this machine's GPU at one batch size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from trt_mpq.artifacts.stage import Stage
from trt_mpq.artifacts.store import Store
from trt_mpq.engine.handover import DESCRIBED, GIVEN, SEARCHED, CalibratedNetwork
from trt_mpq.pipeline.builds import Builds, built_engines
from trt_mpq.pipeline.gpu import Gpu
from trt_mpq.settings import EngineOptions, Settings
from trt_mpq.types import PrecisionPlan
from trt_mpq.types.engine import EngineBuild
from trt_mpq.types.observer import Observer, SilentObserver

BUILDS = "engine/builds"


class GpuEngines:
    """Builds, times and inspects.

    Args:
        folder: The run folder; engines and timing caches go into it.
        batch: Samples per inference; None takes the run's.
        options: How engines are built and timed.
        observer: Told what happens.
        refined: Whether plans have the refinements under which the search scored them.

    Raises:
        RunFolderError: It is no folder of a searched run.
        TrtMpqError: There is no GPU, or no TensorRT.
    """

    def __init__(
        self,
        folder: Path,
        batch: int | None,
        options: EngineOptions,
        observer: Observer | None = None,
        *,
        refined: bool = True,
    ) -> None:
        settings = Settings(model=folder / "model.onnx", engine=options)
        self._store = Store(folder, settings, observer or SilentObserver(), locked=False, given=GIVEN)
        described = Stage("described", lambda job: _at(job[DESCRIBED], batch), needs=(DESCRIBED,), constants=(batch,))
        self.described = self._store[described]
        self.network = self.described.network(folder)
        self.emitter = self._store[SEARCHED].emitter(self.network, folder) if refined else self.network.emitter()
        source = Stage("emitter", lambda job: self.emitter, needs=(DESCRIBED, SEARCHED), constants=(refined,))
        gpu = Gpu(self._store)
        self.platform = gpu.require()
        self._builds = Builds(described, source, gpu.stage, BUILDS)
        self.engines = built_engines(self._store, described, gpu.stage)
        """Times and inspects what was built."""

    def build(self, name: str, plan: PrecisionPlan) -> EngineBuild:
        """The engine of `plan`, or why there is none."""
        return self._store[self._builds.built(name, plan)]


def _at(described: CalibratedNetwork, batch: int | None) -> CalibratedNetwork:
    return described if batch is None else replace(described, batch=batch, counted_batches=batch)
