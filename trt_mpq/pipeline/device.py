"""The device half of a run: what a GPU, of this machine or of one that errands are sent to, does for a run folder.

It starts from two stages, the calibrated network and what the search found, and needs neither model file nor data. Its
results are used on machines without a GPU too: the device table, from which a search elsewhere takes its latencies, and
the deployment, which a report elsewhere shows.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar

from trt_mpq.artifacts.files import to_stored_json
from trt_mpq.artifacts.stage import Job, Stage, json_kind
from trt_mpq.artifacts.store import Store
from trt_mpq.emit import Emitter
from trt_mpq.engine.build import build_engine
from trt_mpq.engine.deploy import ENGINE_FOLDER, Judge, candidates_of, deploy
from trt_mpq.engine.handover import CalibratedNetwork, Searched
from trt_mpq.engine.timing import BUILDS, BuiltEngines
from trt_mpq.errors import MissingDependencyError, ModelError, RuntimeFailure, TrtMpqError
from trt_mpq.latency.device_table import (
    DeviceTable,
    MeasuredLatency,
    ProbedEngine,
    Provenance,
    fit,
    load_table,
    matches,
    probing_plans,
    refuse_mismatch,
    save_table,
)
from trt_mpq.latency.roofline import Latency, LatencyModel
from trt_mpq.latency.target import FIRST_SM
from trt_mpq.model import external_data, save_graph
from trt_mpq.pipeline.sources import TARGET
from trt_mpq.pipeline.workers import Errand, Send
from trt_mpq.runtime.tensorrt.api import capabilities, resolve_typing
from trt_mpq.runtime.tensorrt.request import BuildRequest, shape_ranges
from trt_mpq.settings import EngineOptions
from trt_mpq.types import Precision, PrecisionPlan
from trt_mpq.types.engine import BuildStatus, Candidate, Deployment, EngineBuild, Platform, ShapeRange, Typing
from trt_mpq.types.observer import Observer

T = TypeVar("T")
TABLE = "device-table.json"


@dataclass(frozen=True)
class Kept:
    """A deployment and how it was made."""

    options: EngineOptions
    deployment: Deployment


@dataclass(frozen=True)
class Emitted:
    """A plan as a network for this machine's TensorRT.

    Attributes:
        name: What the plan is called.
        typing: How precision reaches the builder.
        constraints: Precision of the nodes that the builder is told one for; none where the network's types say it.
        shapes: Optimization profile of the dynamic inputs.
        refusal: Why this GPU or this TensorRT cannot have it; empty if it can.
    """

    name: str
    typing: Typing
    constraints: Mapping[str, Precision]
    shapes: Mapping[str, ShapeRange]
    refusal: str = ""


class Device:
    """Builds, times and ships engines for one run.

    Args:
        store: The run's.
        described: The network as it is handed over.
        send: Has another machine do what this one cannot; None if there is none.
    """

    def __init__(self, store: Store, described: Stage[CalibratedNetwork], send: Send | None = None) -> None:
        self._store, self._described, self._send = store, described, send
        self._gpu: Stage[Platform | TrtMpqError] = Stage("gpu", lambda job: self._found(), digest=_gpu_digest)

    @property
    def platform(self) -> Platform | None:
        """The machine on which engines are built and timed, if there is one."""
        found = self._store[self._gpu]
        return found if isinstance(found, Platform) else None

    @property
    def absence(self) -> str | None:
        """Why no engine can be built, in one sentence; None if one can."""
        found = self._store[self._gpu]
        return None if isinstance(found, Platform) else str(found)

    def require(self) -> Platform:
        """The machine on which engines are built and timed.

        Raises:
            MissingDependencyError: TensorRT or pycuda is absent.
            RuntimeFailure: There is no GPU.
        """
        found = self._store[self._gpu]
        if isinstance(found, Platform):
            return found
        raise found

    def latency(self, choice: str) -> Stage[Latency]:
        """Where a search takes its latencies from.

        Args:
            choice: "modelled", "measured", "auto" or the path of a device table.

        Raises:
            SettingsError: The device table cannot be read or was measured for something else.
            RuntimeFailure: "measured" was chosen, and there is neither a device table here nor a GPU.
            MissingDependencyError: The same, for want of TensorRT or pycuda.
        """
        if choice == "modelled" or (choice == "auto" and Precision.INT4 in self._store.settings.precisions):
            return self._modelled()
        described = self._store[self._described]
        if choice not in ("auto", "measured"):
            table = load_table(Path(choice))
            refuse_mismatch(table, described.model.sha256, described.batch)
            return self._measured(table)
        kept = self._table(described)
        if kept is None and self.platform is None and choice == "auto":
            return self._modelled()
        return self._measured(kept or self.measure())

    def measure(self) -> DeviceTable:
        """Measure what every group costs in every precision, from a handful of engines, and keep the table.

        Raises:
            MissingDependencyError: TensorRT or pycuda is absent.
            RuntimeFailure: There is no GPU, or no engine could be built.
        """
        platform, settings = self.require(), self._store.settings
        if self._sends:
            return self._sent(Errand.MEASURE, DeviceTable)
        described = self._store[self._described]
        provenance = Provenance(
            described.model.sha256, described.batch, platform, datetime.now(timezone.utc).isoformat(timespec="seconds"),
            {name: str(value) for name, value in settings.engine.model_dump(mode="json").items()},
        )  # fmt: skip
        table = fit(self._probed(described), described.grouping, provenance, described.counted_batches)
        save_table(table, self._store.folder / TABLE)
        return table

    def deployment(self, searched: Stage[Searched], judge: Stage[Judge | None]) -> Deployment | None:
        """What happened on the device: done now, or kept from this or another machine; None if it never was done.

        Args:
            searched: What the search found.
            judge: Scores an engine; a value of None where there is no evaluation data.
        """
        stage = self._deployment(searched, judge)
        kept = self._store.kept(stage)
        if self.platform is None:
            return kept.deployment if kept else None
        if self._sends and not (kept and self._holds(kept, scored=self._store[judge] is not None)):
            return self._sent(Errand.SHIP, Deployment)
        return self._store[stage].deployment

    # Which machine.

    @property
    def _sends(self) -> bool:
        return self._send is not None and not isinstance(self._store[_HERE], Platform)

    def _found(self) -> Platform | TrtMpqError:
        here = self._store[_HERE]
        if not self._sends:
            return here
        try:
            return self._sent(Errand.PLATFORM, Platform)
        except (MissingDependencyError, RuntimeFailure) as error:
            return RuntimeFailure(f"{here}; and on the cluster: {error}")

    def _sent(self, errand: Errand, kind: type[T]) -> T:
        """What another machine did, which wrote it into the run folder too."""
        assert self._send is not None
        with self._store.observer.stage(f"On a GPU of the cluster: {errand.value}"):
            returned = self._send(errand)
        self._store.reread()
        for note in returned.notes:
            self._store.observer.note(note)
        assert isinstance(returned.value, kind)
        return returned.value

    # Latencies.

    def _modelled(self) -> Stage[Latency]:
        def make(job: Job) -> Latency:
            described = job[self._described]
            return LatencyModel(described.grouping, job[TARGET], described.counted_batches)

        return Stage("modelled-latency", make, needs=(self._described, TARGET))

    def _measured(self, table: DeviceTable) -> Stage[Latency]:
        return Stage(
            "measured-latency", lambda job: MeasuredLatency(table, job[self._described].grouping),
            needs=(self._described,), digest=lambda latency: latency.identity,
        )  # fmt: skip

    def _table(self, described: CalibratedNetwork) -> DeviceTable | None:
        """The table of an earlier measurement, if it is of this network and of this machine or one without a GPU."""
        path = self._store.folder / TABLE
        if not path.is_file():
            return None
        table = load_table(path)
        return table if matches(table, described.model.sha256, described.batch, self.platform) else None

    def _probed(self, described: CalibratedNetwork) -> tuple[ProbedEngine, ...]:
        plain = Stage(
            "plain-emitter", lambda job: job[self._described].network(job.folder).emitter(), needs=(self._described,)
        )
        plans = dict(probing_plans(described.grouping, described.precisions, mix_formats=described.mix_formats))
        builds = {name: self._store[self._built(self._emitted(name, plan, plain))] for name, plan in plans.items()}
        built = {name: build for name, build in builds.items() if build.built}
        if not built:
            reason = next(iter(builds.values())).reason
            raise RuntimeFailure(f"no engine could be built, so nothing was measured: {reason}")
        engines = self._engines(described, self._store.settings.engine, self._store.observer)
        timing = engines.time(built, next(iter(built)))
        return tuple(
            ProbedEngine(
                plan=plans[name],
                gpu_ms=profile.gpu_compute.median,
                layers=engines.layers(name),
                layer_ms={layer.name: layer.ms for layer in profile.layers},
            )
            for name, profile in timing.profiles.items()
        )

    # Engines.

    def _deployment(self, searched: Stage[Searched], judge: Stage[Judge | None]) -> Stage[Kept]:
        emitter = Stage(
            "searched-emitter",
            lambda job: job[searched].emitter(job[self._described].network(job.folder), job.folder),
            needs=(self._described, searched),
        )  # fmt: skip
        grouping, result = self._store[self._described].grouping, self._store[searched].result
        plans = tuple(candidates_of(grouping, result))
        emitted = {name: self._emitted(name, plan, emitter) for name, plan, _ in plans}
        built = {name: self._built(network) for name, network in emitted.items()}

        def make(job: Job) -> Kept:
            candidates = tuple(Candidate(name, plan, job[built[name]], feasible) for name, plan, feasible in plans)
            constraints = {name: job[network].constraints for name, network in emitted.items()}
            engines = self._engines(job[self._described], job.settings.engine, job.observer)
            return Kept(job.settings.engine, deploy(engines, candidates, constraints, job[judge]))

        return Stage(
            "deployment", make, json_kind(Kept), needs=(self._described, searched),
            uses=("engine", judge, *emitted.values(), *built.values()),
            holds=lambda kept, job: self._holds(kept, scored=job[judge] is not None),
        )  # fmt: skip

    def _holds(self, kept: Kept, scored: bool) -> bool:
        """Whether a kept deployment still says what deploying now would."""
        done = kept.deployment
        complete = done.shipped is not None and (done.score is not None or not scored)
        return complete and kept.options == self._store.settings.engine and done.platform == self.platform

    def _engines(self, described: CalibratedNetwork, options: EngineOptions, observer: Observer) -> BuiltEngines:
        shapes = _shapes(described, options.shapes)
        return BuiltEngines(self._store.folder, described, options, self.require(), shapes, observer)

    def _emitted(self, name: str, plan: PrecisionPlan, emitter: Stage[Emitter]) -> Stage[Emitted]:
        """The network of `plan`, for TensorRT as it is here."""
        network = f"{BUILDS}/{name}.onnx"

        def make(job: Job) -> Emitted:
            typing = resolve_typing(job.settings.engine.typing, capabilities())
            shapes = _shapes(job[self._described], job.settings.engine.shapes)
            path = job.path(network)
            external_data(path).unlink(missing_ok=True)  # an earlier plan of this name may have been larger
            try:
                if typing == "strong":
                    _require_gpu_for(job[emitter].precisions(plan), job[self._gpu], job.settings.precisions)
                save_graph(job[emitter].weak(plan) if typing == "weak" else job[emitter].strong(plan), path)
            except ModelError as error:
                return Emitted(name, typing, {}, shapes, str(error))
            return Emitted(name, typing, job[emitter].constraints(plan) if typing == "weak" else {}, shapes)

        return Stage(
            f"{BUILDS}/{name}-network", make, json_kind(Emitted), needs=(emitter, self._described, self._gpu),
            reads=("engine.typing", "engine.shapes", "precisions"), constants=plan.assignments,
            files=(network, f"{network}.data"),
        )  # fmt: skip

    def _built(self, emitted: Stage[Emitted]) -> Stage[EngineBuild]:
        """The engine of a network, or why there is none; a build that failed is tried again when it is asked for again.

        What it depends on is the network, whatever plan that came from: the same one is not built twice.
        """
        name = emitted.name.removesuffix("-network")

        def make(job: Job) -> EngineBuild:
            network, options = job[emitted], job.settings.engine
            if network.refusal:
                build = EngineBuild(BuildStatus.FAILED, network.typing, 0.0, reason=network.refusal)
            else:
                request = BuildRequest(
                    onnx=str(job.path(f"{name}.onnx")), engine=str(job.path(f"{name}.plan")), typing=network.typing,
                    constraints=network.constraints, shapes=network.shapes, options=options,
                    timing_cache=str(options.timing_cache or job.folder / ENGINE_FOLDER / "timing"),
                )  # fmt: skip
                with job.observer.stage(f"Building the {network.name} engine"):
                    build = build_engine(request, job.path(f"{name}.plan").parent)
            if not build.built:
                job.observer.note(f"no {network.name} engine: {build.reason}")
            return build

        return Stage(
            name, make, json_kind(EngineBuild), needs=(emitted, self._gpu), reads=_SHOWN, uses=("engine",),
            files=(f"{name}.plan", f"{name}.layers.json"), holds=lambda build, job: build.built,
        )  # fmt: skip


_SHOWN = tuple(f"engine.{name}" for name in EngineOptions().of_engine())
"""The options that an engine depends on."""


def _here(job: Job) -> Platform | TrtMpqError:
    from trt_mpq.runtime.tensorrt.platform import this_platform

    try:
        return this_platform()
    except (MissingDependencyError, RuntimeFailure) as error:
        return error


def _gpu_digest(found: Platform | TrtMpqError) -> str:
    return to_stored_json(found, Platform) if isinstance(found, Platform) else str(found)


_HERE = Stage("here", _here)
"""What this machine has, or why it can build nothing."""


def _shapes(described: CalibratedNetwork, given: tuple[str, ...]) -> dict[str, ShapeRange]:
    return shape_ranges(described.model.inputs, described.sample_shapes, described.batch, given)


def _require_gpu_for(held: Iterable[Precision], gpu: Platform | TrtMpqError, asked: Container[Precision]) -> None:
    """Raise ModelError if the GPU has no arithmetic for one of the precisions `held`."""
    assert isinstance(gpu, Platform)
    for precision, first in FIRST_SM.items():
        if precision in held and gpu.sm < first:
            other = f"for a --device that has no {precision.name} either"
            raise ModelError(
                f"{precision.name} needs a GPU of compute capability {first / 10:.1f} or later, {gpu.gpu} has "
                f"{gpu.sm / 10:.1f}: search {f'without {precision}' if precision in asked else other}"
            )
