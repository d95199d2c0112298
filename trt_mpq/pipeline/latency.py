"""Where a search takes its latencies from: a model of the GPU, or a table that one was measured for."""

from __future__ import annotations

from datetime import datetime, timezone

from trt_mpq.artifacts.stage import Job, Stage
from trt_mpq.artifacts.store import Store
from trt_mpq.engine.handover import CalibratedNetwork
from trt_mpq.errors import RuntimeFailure
from trt_mpq.latency.base import Latency
from trt_mpq.latency.device_table import (
    DeviceTable,
    MeasuredLatency,
    Provenance,
    load_table,
    matches,
    refuse_mismatch,
    save_table,
)
from trt_mpq.latency.energy import EnergyModel
from trt_mpq.latency.fitting import fit
from trt_mpq.latency.probing import ProbedEngine, probing_plans
from trt_mpq.latency.roofline import LatencyModel
from trt_mpq.pipeline.builds import built_engines, plain_builds
from trt_mpq.pipeline.gpu import Gpu
from trt_mpq.pipeline.remote import RemoteTask
from trt_mpq.pipeline.sources import GIVEN_TABLE, TARGET

DEVICE_TABLE = "device-table.json"
"""What was measured on a GPU, in the run folder."""


def choose_latency(store: Store, described: Stage[CalibratedNetwork], gpu: Gpu) -> Stage[Latency]:
    """The latencies that the settings ask for: "modelled", "measured", "auto" or the path of a device table.

    Raises:
        SettingsError: The device table cannot be read or was measured for something else.
        RuntimeFailure: "measured" was chosen, and there is neither a device table here nor a GPU.
        MissingDependencyError: The same, for want of TensorRT or pycuda.
    """
    choice = store.settings.latency
    if choice == "modelled" or (choice == "auto" and not all(p.deployable for p in store.settings.precisions)):
        return _modelled(described)
    if (table := store[GIVEN_TABLE]) is not None:
        refuse_mismatch(table, store[described].model.sha256, store[described].batch)
        return _measured(described, table)
    kept = _kept_table(store, described, gpu)
    if kept is None and gpu.find() is None and choice == "auto":
        return _modelled(described)
    return _measured(described, kept or measure_latency(store, described, gpu))


def energy_of(described: Stage[CalibratedNetwork], latency: Stage[Latency]) -> Stage[EnergyModel | None]:
    """The modelled energy of plans; None where nobody says what the device draws."""

    def make(job: Job) -> EnergyModel | None:
        network, target = job[described], job[TARGET]
        if target.board_power_w is None or target.idle_share is None:
            return None
        tf32 = job.settings.engine.tf32
        work = LatencyModel(network.grouping, target, network.counted_batches, tf32=tf32)
        return EnergyModel(job[latency], work, target)

    return Stage("modelled-energy", make, needs=(described, latency, TARGET), reads=("engine.tf32",))


def measure_latency(store: Store, described: Stage[CalibratedNetwork], gpu: Gpu) -> DeviceTable:
    """Measure what every group costs in every precision, from a handful of engines, and keep the table.

    Raises:
        MissingDependencyError: TensorRT or pycuda is absent.
        RuntimeFailure: There is no GPU, or no engine could be built.
    """
    platform, network, options = gpu.require(), store[described], store.settings.engine
    if gpu.is_remote():
        return gpu.run_remotely(RemoteTask.MEASURE, DeviceTable)
    provenance = Provenance(
        network.model.sha256, network.batch, platform, datetime.now(timezone.utc).isoformat(timespec="seconds"),
        options.model_dump(mode="json"),
    )  # fmt: skip
    table = fit(_probed(store, described, gpu), network.grouping, provenance, network.counted_batches)
    save_table(table, store.folder / DEVICE_TABLE)
    return table


def _modelled(described: Stage[CalibratedNetwork]) -> Stage[Latency]:
    def make(job: Job) -> Latency:
        network = job[described]
        tf32 = job.settings.engine.tf32
        return LatencyModel(network.grouping, job[TARGET], network.counted_batches, tf32=tf32)

    return Stage("modelled-latency", make, needs=(described, TARGET), reads=("engine.tf32",))


def _measured(described: Stage[CalibratedNetwork], table: DeviceTable) -> Stage[Latency]:
    return Stage(
        "measured-latency", lambda job: MeasuredLatency(table, job[described].grouping), needs=(described,),
        digest=lambda found: found.identity,
    )  # fmt: skip


def _kept_table(store: Store, described: Stage[CalibratedNetwork], gpu: Gpu) -> DeviceTable | None:
    """The table of an earlier measurement of this network, on any device where there is none here.

    With a GPU at hand it has to be of that one, and of engines such as would be built now.
    """
    path, network, platform = store.folder / DEVICE_TABLE, store[described], gpu.find()
    if not path.is_file():
        return None
    table = load_table(path)
    if not matches(table, network.model.sha256, network.batch, platform):
        return None
    options = store.settings.engine.of_network()
    same = {name: table.provenance.settings.get(name) for name in options} == options
    return table if platform is None or (same and set(network.precisions) <= set(table.group_ms)) else None


def _probed(store: Store, described: Stage[CalibratedNetwork], gpu: Gpu) -> tuple[ProbedEngine, ...]:
    builds, network = plain_builds(described, gpu.stage), store[described]
    plans = dict(probing_plans(network.grouping, network.precisions, mix_formats=network.mix_formats))
    outcomes = {name: store[builds.built(name, plan)] for name, plan in plans.items()}
    built = {name: build for name, build in outcomes.items() if build.built}
    if not built:
        reason = next(iter(outcomes.values())).reason
        raise RuntimeFailure(f"no engine could be built, so nothing was measured: {reason}")
    engines = built_engines(store, described, gpu.stage)
    timing = engines.time(built, [next(iter(built))])
    return tuple(
        ProbedEngine(
            plan=plans[name],
            gpu_ms=profile.gpu_compute.median,
            layers=engines.layers(built[name]),
            layer_ms={layer.name: layer.ms for layer in profile.layers},
        )
        for name, profile in timing.profiles.items()
    )
