"""The device half of a run: what a GPU, of this machine or of one that errands are sent to, does for a run folder.

It starts from two stages, the calibrated network and what the search found, and needs neither model file nor data. Its
results are used on machines without a GPU too: the device table, from which a search elsewhere takes its latencies, and
the deployment, which a report elsewhere shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar

from trt_mpq.artifacts.files import to_stored_json
from trt_mpq.artifacts.stage import Job, Stage, json_kind
from trt_mpq.artifacts.store import Store
from trt_mpq.engine.deploy import Judge, candidates_of, deploy
from trt_mpq.engine.handover import CalibratedNetwork, Searched
from trt_mpq.errors import MissingDependencyError, RuntimeFailure, TrtMpqError
from trt_mpq.latency.device_table import (
    DeviceTable,
    MeasuredLatency,
    Provenance,
    load_table,
    matches,
    refuse_mismatch,
    save_table,
)
from trt_mpq.latency.fitting import fit
from trt_mpq.latency.probing import ProbedEngine, probing_plans
from trt_mpq.latency.roofline import Latency, LatencyModel
from trt_mpq.pipeline.builds import Builds
from trt_mpq.pipeline.sources import TARGET
from trt_mpq.pipeline.workers import Errand, Send
from trt_mpq.settings import EngineOptions
from trt_mpq.types import Precision
from trt_mpq.types.engine import Candidate, Deployment, Platform

T = TypeVar("T")
TABLE = "device-table.json"


@dataclass(frozen=True)
class Kept:
    """A deployment and how it was made."""

    options: EngineOptions
    deployment: Deployment


class Device:
    """Builds, times and ships engines for one run.

    Args:
        store: The run's.
        described: The network as it is handed over.
        send: Has another machine do what this one cannot; None if there is none.
    """

    def __init__(self, store: Store, described: Stage[CalibratedNetwork], send: Send | None = None) -> None:
        self._store, self._described, self._send = store, described, send
        self.gpu: Stage[Platform | TrtMpqError] = Stage("gpu", lambda job: self._found(), digest=_gpu_digest)

    @property
    def platform(self) -> Platform | None:
        """The machine on which engines are built and timed, if there is one."""
        found = self._store[self.gpu]
        return found if isinstance(found, Platform) else None

    @property
    def absence(self) -> str | None:
        """Why no engine can be built, in one sentence; None if one can."""
        found = self._store[self.gpu]
        return None if isinstance(found, Platform) else str(found)

    def require(self) -> Platform:
        """The machine on which engines are built and timed.

        Raises:
            MissingDependencyError: TensorRT or pycuda is absent.
            RuntimeFailure: There is no GPU.
        """
        found = self._store[self.gpu]
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
        probes = Builds(self._described, plain, self.gpu)
        plans = dict(probing_plans(described.grouping, described.precisions, mix_formats=described.mix_formats))
        builds = {name: self._store[probes.built(name, plan)] for name, plan in plans.items()}
        built = {name: build for name, build in builds.items() if build.built}
        if not built:
            reason = next(iter(builds.values())).reason
            raise RuntimeFailure(f"no engine could be built, so nothing was measured: {reason}")
        engines = probes.engines(self._store)
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
        builds = Builds(self._described, emitter, self.gpu)
        emitted = {name: builds.emitted(name, plan) for name, plan, _ in plans}
        built = {name: builds.built(name, plan) for name, plan, _ in plans}

        def make(job: Job) -> Kept:
            candidates = tuple(Candidate(name, plan, job[built[name]], feasible) for name, plan, feasible in plans)
            constraints = {name: job[network].constraints for name, network in emitted.items()}
            return Kept(job.settings.engine, deploy(builds.engines(self._store), candidates, constraints, job[judge]))

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
