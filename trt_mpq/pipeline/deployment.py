"""The engine of a searched run: its candidates built, timed in turns, one shipped and verified.

It starts from two stages, the calibrated network and what the search found, and needs neither model file nor data. What
happened on the device is kept in the run folder, where a report on a machine without a GPU finds it too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trt_mpq.artifacts.stage import Job, Stage, json_kind
from trt_mpq.artifacts.store import Store
from trt_mpq.engine.deploy import EngineScorer, Requirements, candidates_of, deploy
from trt_mpq.engine.handover import CalibratedNetwork, Searched
from trt_mpq.engine.shipping import ENGINE_FOLDER, is_shipped
from trt_mpq.evaluate.compare import require_passed, required_snr_db
from trt_mpq.pipeline.bisection import bisection_of
from trt_mpq.pipeline.builds import Builds, built_engines, plain_builds
from trt_mpq.pipeline.engine_scoring import ENGINE_SCORER
from trt_mpq.pipeline.gpu import Gpu
from trt_mpq.pipeline.remote import RemoteTask
from trt_mpq.settings import EngineOptions, Settings
from trt_mpq.types.engine import Candidate, Deployment, Platform


@dataclass(frozen=True)
class _Record:
    """A deployment, the options it was made with, what it had to live up to, and the identity of what scored it."""

    options: EngineOptions
    deployment: Deployment
    requirements: Requirements
    scorer: str | None = None

    def holds(
        self,
        options: EngineOptions,
        requirements: Requirements,
        platform: Platform,
        scorer: EngineScorer | None,
        folder: Path,
    ) -> bool:
        """Whether it still says what deploying now would, and the engine lies in the run folder."""
        done = self.deployment
        scored = scorer is None or self.scorer == scorer.identity
        asked = (self.options, self.requirements) == (options, requirements)
        same = scored and asked and done.platform == platform
        return same and done.shipped is not None and is_shipped(folder, done.engine_sha256)


def deployment(
    store: Store,
    described: Stage[CalibratedNetwork],
    searched: Stage[Searched],
    gpu: Gpu,
    scorer: Stage[EngineScorer | None] = ENGINE_SCORER,
) -> Deployment | None:
    """What happened on the device: done now, or kept from this or another machine; None if it never was done.

    Args:
        store: The run's.
        described: The network.
        searched: What the search found.
        gpu: Where engines are built.
        scorer: Scores an engine; a value of None where there is no evaluation data.
    """
    stage = _stage(store, described, searched, gpu, scorer)
    kept, platform = store.kept(stage), gpu.find()
    if platform is None:
        return kept.deployment if kept else None
    if gpu.is_remote():
        requirements = _requirements(store.settings, store[searched])
        holds = kept and kept.holds(store.settings.engine, requirements, platform, store[scorer], store.folder)
        return kept.deployment if kept and holds else gpu.run_remotely(RemoteTask.SHIP, Deployment)
    return store[stage].deployment


def require_comparison(settings: Settings, done: Deployment) -> None:
    """Raise ComparisonFailed if the engine that was to be shipped fails the comparison, and that is required."""
    if settings.require_comparison and done.comparison is not None:
        require_passed(done.comparison, "the engine")


def _stage(
    store: Store,
    described: Stage[CalibratedNetwork],
    searched: Stage[Searched],
    gpu: Gpu,
    scorer: Stage[EngineScorer | None],
) -> Stage[_Record]:
    emitter = Stage(
        "searched-emitter", lambda job: job[searched].emitter(job[described].network(job.folder), job.folder),
        needs=(described, searched),
    )  # fmt: skip
    platform = gpu.stage
    plain = plain_builds(described, platform)
    refined = Builds(described, emitter, platform, f"{ENGINE_FOLDER}/refined")
    emitted, built = {}, {}
    bisected = store.kept(bisection_of(described, searched, platform))
    at_fault = bisected.bisection.at_fault if bisected else {}
    for name, plan, _ in candidates_of(store[described].grouping, store[searched].result, at_fault):
        # What is not quantized is not refined, and may have been built for measuring.
        builds = refined if any(precision.quantized for precision in plan.counts()) else plain
        emitted[name], built[name] = builds.emitted(name, plan), builds.built(name, plan)

    def make(job: Job) -> _Record:
        plans = candidates_of(job[described].grouping, job[searched].result, at_fault)
        candidates = tuple(Candidate(name, plan, job[built[name]], feasible) for name, plan, feasible in plans)
        constraints = {name: job[network].constraints for name, network in emitted.items()}
        scored_by = job[scorer]
        engines, requirements = built_engines(job, described, platform), _requirements(job.settings, job[searched])
        done = deploy(engines, candidates, constraints, scored_by, requirements)
        return _Record(job.settings.engine, done, requirements, scored_by.identity if scored_by else None)

    def holds(record: _Record, job: Job) -> bool:
        here = job[platform]
        assert isinstance(here, Platform)
        requirements = _requirements(job.settings, job[searched])
        return record.holds(job.settings.engine, requirements, here, job[scorer], job.folder)

    return Stage(
        "deployment", make, json_kind(_Record), needs=(described, searched), constants=(at_fault,),
        uses=(
            "engine", "least_snr_db", "require_comparison", "requires_accuracy", scorer, platform,
            *emitted.values(), *built.values(),
        ),
        holds=holds,
    )  # fmt: skip


def _requirements(settings: Settings, searched: Searched) -> Requirements:
    score = searched.required if settings.requires_accuracy else None
    snr_db = required_snr_db(settings.least_snr_db, [spec.name for spec in searched.outputs])
    return Requirements(score, snr_db, settings.require_comparison)
