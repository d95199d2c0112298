"""Why the engine of a searched plan computes something else than its reference, asked of engines on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trt_mpq.artifacts.stage import Job, Stage, json_kind
from trt_mpq.engine.bisection import Bisection, bisect
from trt_mpq.engine.handover import CalibratedNetwork, Searched
from trt_mpq.engine.plan_engines import PlanEngines
from trt_mpq.errors import TrtMpqError
from trt_mpq.evaluate.compare import compare_models, required_snr_db
from trt_mpq.model import save_graph
from trt_mpq.pipeline.plan_engines import engines_of
from trt_mpq.settings import EngineOptions
from trt_mpq.types import Comparison, PrecisionPlan
from trt_mpq.types.engine import Platform


@dataclass(frozen=True)
class BisectionRecord:
    """A bisection, where and how its engines were built, and what outputs had to be like."""

    bisection: Bisection
    platform: Platform
    options: EngineOptions
    least_snr_db: Mapping[str, float]


def bisection_of(
    described: Stage[CalibratedNetwork], searched: Stage[Searched], gpu: Stage[Platform | TrtMpqError]
) -> Stage[BisectionRecord]:
    """The bisection of the plan that was found; like a deployment it is kept under what was searched alone."""

    def make(job: Job) -> BisectionRecord:
        here, settings = job[gpu], job.settings
        if not isinstance(here, Platform):
            raise here
        found, network = job[searched], job[described]
        compared = _Compared(
            network, found, job.folder, engines_of(here, network, settings.engine, job.folder),
            required_snr_db(settings.least_snr_db, [spec.name for spec in found.outputs]),
        )  # fmt: skip
        high = network.grouping.uniform(network.grouping.top)
        with job.observer.stage("Comparing engines with their references"):
            bisection = bisect(found.result.chosen.plan, high, compared)
        return BisectionRecord(bisection, here, settings.engine, settings.least_snr_db)

    def holds(record: BisectionRecord, job: Job) -> bool:
        made = record.platform, record.options, dict(record.least_snr_db)
        return made == (job[gpu], job.settings.engine, job.settings.least_snr_db)

    return Stage(
        "bisection", make, json_kind(BisectionRecord), needs=(described, searched),
        uses=("engine", "least_snr_db", gpu), holds=holds,
    )  # fmt: skip


class _Compared:
    """Compares the engine of a plan with the plan's own reference, on the samples that travel with the run."""

    def __init__(
        self,
        described: CalibratedNetwork,
        searched: Searched,
        folder: Path,
        engines: PlanEngines,
        required_db: Mapping[str, float],
    ) -> None:
        self._emitter = searched.emitter(described.network(folder), folder)
        self._samples, self._batch = described.samples(folder), described.batch
        self._engines, self._required_db = engines, required_db

    def __call__(self, plan: PrecisionPlan) -> Comparison:
        with tempfile.TemporaryDirectory(prefix="trt-mpq-") as folder:
            reference = Path(folder) / "reference.onnx"
            save_graph(self._emitter.reference(plan), reference)
            with self._engines.session(self._emitter, plan) as session:
                return compare_models(reference, session, self._samples, self._batch, self._required_db)
