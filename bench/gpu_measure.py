"""The engines of a prepared run folder: built, timed in turns, checked and inspected on this machine's GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx_ir as ir

from bench.gpu_engines import BUILDS, GpuEngines
from bench.gpu_results import Measurement, Row
from trt_mpq.artifacts.files import key_of
from trt_mpq.dataset.chunks import chunks
from trt_mpq.emit.network import Network
from trt_mpq.engine.build import build_engine
from trt_mpq.engine.handover import Searched, read_network, read_searched
from trt_mpq.engine.realised import disagreements, realise
from trt_mpq.errors import RuntimeFailure
from trt_mpq.evaluate.compare import sqnr_db
from trt_mpq.runtime.base import Arrays, Session
from trt_mpq.runtime.onnxruntime import OnnxRuntime
from trt_mpq.runtime.tensorrt.api import capabilities, resolve_typing
from trt_mpq.runtime.tensorrt.request import BuildRequest
from trt_mpq.settings import EngineOptions
from trt_mpq.types import Precision, PrecisionPlan
from trt_mpq.types.engine import EngineBuild, Platform, SideBySide
from trt_mpq.types.observer import Observer

FP32, FP16 = Precision.FP32.value, Precision.FP16.value
CHECKED_SAMPLES = 128
SUFFIX = {Precision.INT8: "", Precision.FP8: "-fp8"}
"""The format that a plan of the search mixes with FP16, and how its name ends."""


def plans_to_measure(network: Network, searched: Searched, formats: tuple[Precision, ...]) -> dict[str, PrecisionPlan]:
    """The uniform plans, FP32 and FP16 first, and per format two plans of the search that kept the target.

    "searched" is the fastest of them as far as the latency model can tell, "lowered" has the most groups in the
    format: whether that pays is what a measurement can tell better.
    """
    groups = network.grouping.groups
    plans = {
        FP32: PrecisionPlan.uniform(groups, Precision.FP32, Precision.FP32),
        FP16: network.grouping.uniform(Precision.FP16),
    }
    plans.update((precision.value, network.grouping.uniform(precision)) for precision in formats)
    for precision in formats:
        within = {Precision.FP32, Precision.FP16, precision}
        kept = [tried for tried in searched.result.path if tried.feasible and set(tried.plan.counts()) <= within]
        if kept:
            plans[f"searched{SUFFIX[precision]}"] = min(kept, key=lambda tried: tried.latency_ms).plan
            lowered = [tried.plan.counts().get(precision, 0) for tried in kept]
            plans[f"lowered{SUFFIX[precision]}"] = kept[lowered.index(max(lowered))].plan
    return plans


def distinct(plans: Mapping[str, PrecisionPlan]) -> tuple[dict[str, PrecisionPlan], dict[str, str]]:
    """`plans` without repetitions, and the name of every left-out plan to that of the equal one."""
    first: dict[PrecisionPlan, str] = {}
    same = {}
    for name, plan in plans.items():
        if first.setdefault(plan, name) != name:
            same[name] = first[plan]
    return {name: plan for plan, name in first.items()}, same


class Subject:
    """A prepared run folder on this machine.

    Args:
        folder: The run folder; engines and timing caches go into it.
        platform: This machine.
        options: How engines are built and timed.
        formats: 8-bit formats that this TensorRT and GPU have.
        observer: Told what happens.

    Raises:
        RunFolderError: It is no prepared run folder.
    """

    def __init__(
        self,
        folder: Path,
        platform: Platform,
        options: EngineOptions,
        formats: tuple[Precision, ...],
        observer: Observer,
    ) -> None:
        self.name, self._folder = folder.name, folder.absolute()  # builds happen in processes of their own
        self._platform, self._options, self._observer = platform, options, observer
        self._described, searched = read_network(folder), read_searched(folder)
        self._network = self._described.network(folder)
        self._emitter = searched.emitter(self._network, folder)
        self._plans, self._same = distinct(plans_to_measure(self._network, searched, formats))
        self.key = key_of(
            repr(self._described), repr(searched), options.model_dump(mode="json"), repr(platform), list(formats)
        )

    def measure(self, batch: int) -> Row:
        """Build, time, check and inspect every plan at `batch` samples per inference.

        Raises:
            RunFolderError: A file cannot be written.
        """
        gpu = GpuEngines(self._folder, batch, self._options, self._observer)
        builds = {_engine(name, batch): self._build(gpu, name, batch) for name in self._plans}
        built = {name: build for name, build in builds.items() if build.built}
        row = Row(self.name, batch, self.key, datetime.now(timezone.utc).isoformat(timespec="seconds"), same=self._same)
        try:
            found = self._run(gpu, built, batch) if built else _Found()
        except RuntimeFailure as failure:  # the other rows are still wanted
            self._observer.note(f"{self.name}, batch {batch}: {failure}")
            row, found = replace(row, failure=str(failure)), _Found()
        return replace(
            row,
            engines={
                name: self._measurement(gpu, name, builds[_engine(name, batch)], found, _engine(name, batch))
                for name in self._plans
            },
        )

    def _build(self, gpu: GpuEngines, name: str, batch: int) -> EngineBuild:
        if name != FP32:
            return gpu.build(_engine(name, batch), self._plans[name])
        # No plan is FP32 throughout: what stands between groups is FP16. The baseline is the model as it came, whose
        # nodes a weakly typed build has to be told to leave in FP32.
        typing = resolve_typing(self._options.typing, capabilities())
        weak = typing == "weak"
        request = BuildRequest(
            onnx=str(self._folder / self._described.original.path),
            engine=f"{_engine(name, batch)}.plan",
            typing=typing,
            constraints=dict.fromkeys(self._emitter.constraints(self._plans[FP32]), Precision.FP32) if weak else {},
            shapes=gpu.engines.shapes,
            options=self._options,
            timing_cache=str(self._options.timing_cache or self._folder / "engine" / "timing"),
        )
        with self._observer.stage(f"Building the {_engine(name, batch)} engine"):
            build = build_engine(request, self._folder / BUILDS)
        if not build.built:
            return build
        return replace(build, engine=f"{BUILDS}/{build.engine}", layers=f"{BUILDS}/{build.layers}")

    def _run(self, gpu: GpuEngines, built: Mapping[str, EngineBuild], batch: int) -> _Found:
        baseline = _engine(FP16, batch) if _engine(FP16, batch) in built else next(iter(built))
        timing = gpu.engines.time(built, [baseline])
        outputs = {}
        with gpu.engines.loaded(built) as engines:
            for name, engine in engines.items():
                with engine.session() as session:
                    outputs[name] = self._outputs(session, batch)
        return _Found(timing, outputs)

    def _outputs(self, session: Session, batch: int) -> Arrays:
        samples = self._described.samples(self._folder).take(CHECKED_SAMPLES)
        parts = [chunk.run(session) for chunk in chunks(samples, batch)]
        return {name: np.concatenate([part[name] for part in parts]) for name in session.output_names}

    @cached_property
    def _expected(self) -> dict[str, Arrays]:
        """Outputs in ONNX Runtime, of the model as it came (as "fp32") and of what each plan computes."""
        sources: dict[str, Path | ir.Model] = {
            name: self._emitter.reference(plan) for name, plan in self._plans.items() if name != FP32
        }
        sources[FP32] = self._folder / self._described.original.path
        runtime = OnnxRuntime()
        return {name: self._outputs(runtime.load(source), self._described.batch) for name, source in sources.items()}

    def _measurement(self, gpu: GpuEngines, name: str, build: EngineBuild, found: _Found, engine: str) -> Measurement:
        plan = self._plans[name]
        measured = Measurement(
            counts={precision.value: count for precision, count in plan.counts().items()},
            typing=build.typing,
            status=build.status,
            build_seconds=build.seconds,
            size_bytes=build.size_bytes,
            reason=build.reason,
            groups=len(plan.assignments),
        )
        if not build.built:
            return measured
        realised = realise(plan, self._described.grouping, gpu.engines.layers(build))
        measured = replace(
            measured, agreeing=realised.agreeing, unknown=realised.unknown, disagreements=disagreements(realised),
            unfused=len(realised.unfused), reformats=len(realised.reformats),
        )  # fmt: skip
        if found.timing is None:
            return measured
        return replace(
            measured,
            profile=replace(found.timing.profiles[engine], layers=()),
            ratio=found.timing.ratio(engine),
            sqnr_fp32_db=_worst(self._expected[FP32], found.outputs[engine]),
            sqnr_plan_db=_worst(self._expected[name], found.outputs[engine]),
        )


@dataclass(frozen=True)
class _Found:
    """What running the engines of a row gave, by engine name."""

    timing: SideBySide | None = None
    outputs: Mapping[str, Arrays] = field(default_factory=dict)


def _engine(plan: str, batch: int) -> str:
    return f"{plan}-b{batch}"


def _worst(expected: Arrays, given: Arrays) -> float | None:
    """The lowest SQNR over all outputs; None if every one is bit-equal."""
    ratios = [found for name in expected if (found := sqnr_db(expected[name], given[name])) is not None]
    return min(ratios, default=None)
