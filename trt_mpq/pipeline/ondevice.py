"""The device half of a run: what a GPU, of this machine or of one that errands are sent to, does for one run folder.

Its two results are kept in the run folder and used on machines without a GPU too: the device table, from which a
search elsewhere takes its latencies, and the deployment, which a report elsewhere shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from trt_mpq.artifacts.storage import from_json, key_of, to_stored_json, write_text
from trt_mpq.emit import Emitter
from trt_mpq.emit.network import Network
from trt_mpq.engine.deploy import Judge, deploy
from trt_mpq.engine.workshop import Workshop
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
from trt_mpq.pipeline.errands import Errand, Send
from trt_mpq.pipeline.handover import CalibratedNetwork, Searched
from trt_mpq.settings import EngineOptions
from trt_mpq.types import Precision, Target
from trt_mpq.types.engine import Deployment, Platform
from trt_mpq.types.observer import Observer

T = TypeVar("T")

DEPLOYMENT, TABLE = "deployment.json", "device-table.json"


@dataclass(frozen=True)
class _Kept:
    """A deployment, what it was made from, and how."""

    source: str
    options: EngineOptions
    deployment: Deployment


class OnDevice:
    """Builds, times and ships engines for one run folder.

    Args:
        folder: The run folder.
        options: How engines are built and timed.
        observer: Told what happens.
        send: Has another machine do what this one cannot; None if there is none.
    """

    def __init__(self, folder: Path, options: EngineOptions, observer: Observer, send: Send | None = None) -> None:
        self._folder, self._options, self._observer, self._send = folder, options, observer, send

    @cached_property
    def _here(self) -> Platform | TrtMpqError:
        from trt_mpq.runtime.tensorrt.platform import this_platform

        try:
            return this_platform()
        except (MissingDependencyError, RuntimeFailure) as error:
            return error

    @cached_property
    def _found(self) -> Platform | TrtMpqError:
        if self._send is None or isinstance(self._here, Platform):
            return self._here
        try:
            return self._sent(self._send, Errand.PLATFORM, Platform)
        except (MissingDependencyError, RuntimeFailure) as error:
            return RuntimeFailure(f"{self._here}; and on the cluster: {error}")

    @property
    def platform(self) -> Platform | None:
        """The machine on which engines are built and timed, if there is one."""
        return self._found if isinstance(self._found, Platform) else None

    @property
    def absence(self) -> str | None:
        """Why no engine can be built, in one sentence; None if one can."""
        return None if isinstance(self._found, Platform) else str(self._found)

    def require(self) -> Platform:
        """The machine on which engines are built and timed.

        Raises:
            MissingDependencyError: TensorRT or pycuda is absent.
            RuntimeFailure: There is no GPU.
        """
        if isinstance(self._found, Platform):
            return self._found
        raise self._found

    def latency(self, choice: str, described: CalibratedNetwork, target: Target) -> Latency:
        """Where a search takes its latencies from.

        Args:
            choice: "modelled", "measured", "auto" or the path of a device table.
            described: The network.
            target: The modelled GPU.

        Raises:
            SettingsError: The device table cannot be read or was measured for something else.
            RuntimeFailure: "measured" was chosen, and there is neither a device table here nor a GPU.
            MissingDependencyError: The same, for want of TensorRT or pycuda.
        """
        model = LatencyModel(described.grouping, target, described.counted_batches)
        if choice == "modelled" or (choice == "auto" and Precision.INT4 in described.precisions):
            return model
        if choice not in ("auto", "measured"):
            table = load_table(Path(choice))
            refuse_mismatch(table, described.model.sha256, described.batch)
            return MeasuredLatency(table, described.grouping)
        kept = self._table(described)
        if kept is None and self.platform is None and choice == "auto":
            return model
        return MeasuredLatency(kept or self.measure(described), described.grouping)

    def measure(self, described: CalibratedNetwork) -> DeviceTable:
        """Measure what every group costs in every precision, from a handful of engines, and keep the table.

        Raises:
            MissingDependencyError: TensorRT or pycuda is absent.
            RuntimeFailure: There is no GPU, or no engine could be built.
        """
        platform = self.require()
        if self._send is not None and platform is not self._here:
            return self._sent(self._send, Errand.MEASURE, DeviceTable)
        network = described.network(self._folder)
        workshop = self._workshop(described, network, network.emitter())
        provenance = Provenance(
            described.model.sha256, described.batch, platform, datetime.now(timezone.utc).isoformat(timespec="seconds"),
            {name: str(value) for name, value in self._options.model_dump(mode="json").items()},
        )  # fmt: skip
        table = fit(_probed(workshop), described.grouping, provenance, described.counted_batches)
        save_table(table, self._folder / TABLE)
        return table

    def deployment(self, described: CalibratedNetwork, searched: Searched, judge: Judge | None) -> Deployment | None:
        """What happened on the device: done now, or kept from this or another machine; None if it never was done."""
        source = key_of(to_stored_json(described, CalibratedNetwork), to_stored_json(searched, Searched))
        kept = self._kept(source)
        if self.platform is None:
            return kept.deployment if kept else None
        if kept and self._holds(kept, scored=judge is not None):
            return kept.deployment
        if self._send is not None and self.platform is not self._here:
            return self._sent(self._send, Errand.SHIP, Deployment)
        network = described.network(self._folder)
        workshop = self._workshop(described, network, searched.emitter(network, self._folder))
        deployment = deploy(workshop, searched, self._observer, judge)
        write_text(self._folder / DEPLOYMENT, to_stored_json(_Kept(source, self._options, deployment), _Kept))
        return deployment

    def _sent(self, send: Send, errand: Errand, kind: type[T]) -> T:
        """What another machine did, which wrote it into the run folder too."""
        with self._observer.stage(f"On a GPU of the cluster: {errand.value}"):
            returned = send(errand)
        for note in returned.notes:
            self._observer.note(note)
        assert isinstance(returned.value, kind)
        return returned.value

    def _workshop(self, described: CalibratedNetwork, network: Network, emitter: Emitter) -> Workshop:
        return Workshop(described, network, emitter, self._options, self._folder, self.require(), self._observer)

    def _table(self, described: CalibratedNetwork) -> DeviceTable | None:
        """The table of an earlier measurement, if it is of this network and of this machine or one without a GPU."""
        path = self._folder / TABLE
        if not path.is_file():
            return None
        table = load_table(path)
        return table if matches(table, described.model.sha256, described.batch, self.platform) else None

    def _kept(self, source: str) -> _Kept | None:
        path = self._folder / DEPLOYMENT
        if not path.is_file():
            return None
        try:
            kept = from_json(path.read_bytes(), _Kept)
        except ValidationError:  # of another version: done again
            return None
        return kept if kept.source == source else None

    def _holds(self, kept: _Kept, scored: bool) -> bool:
        """Whether a kept deployment still says what deploying now would."""
        done = kept.deployment
        complete = done.shipped is not None and (done.score is not None or not scored)
        return complete and kept.options == self._options and done.platform == self.platform


def _probed(workshop: Workshop) -> tuple[ProbedEngine, ...]:
    described = workshop.described
    plans = dict(probing_plans(described.grouping, described.precisions, mix_formats=described.mix_formats))
    builds = {name: workshop.build(name, plan) for name, plan in plans.items()}
    built = {name: build for name, build in builds.items() if build.built}
    if not built:
        reason = next(iter(builds.values())).reason
        raise RuntimeFailure(f"no engine could be built, so nothing was measured: {reason}")
    timing = workshop.time(built, next(iter(built)))
    return tuple(
        ProbedEngine(
            plan=plans[name],
            gpu_ms=profile.gpu_compute.median,
            layers=workshop.layers(name),
            layer_ms={layer.name: layer.ms for layer in profile.layers},
        )
        for name, profile in timing.profiles.items()
    )
