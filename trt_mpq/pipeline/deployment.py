"""The engine of a searched run: its candidates built, timed in turns, one shipped and verified.

It starts from two stages, the calibrated network and what the search found, and needs neither model file nor data. What
happened on the device is kept in the run folder, where a report on a machine without a GPU finds it too.
"""

from __future__ import annotations

from dataclasses import dataclass

from trt_mpq.artifacts.stage import Job, Stage, json_kind
from trt_mpq.artifacts.store import Store
from trt_mpq.engine.deploy import Judge, candidates_of, deploy
from trt_mpq.engine.handover import CalibratedNetwork, Searched
from trt_mpq.pipeline.builds import Builds
from trt_mpq.pipeline.gpu import Gpu
from trt_mpq.pipeline.remote import RemoteTask
from trt_mpq.pipeline.scoring import SCORER
from trt_mpq.settings import EngineOptions
from trt_mpq.types.engine import Candidate, Deployment, Platform

JUDGE: Stage[Judge | None] = Stage("judge", lambda job: job[SCORER].score_session, needs=(SCORER,))
"""Gives the task score of an engine, where the evaluation data is at hand."""


@dataclass(frozen=True)
class _Kept:
    """A deployment and how it was made."""

    options: EngineOptions
    deployment: Deployment

    def holds(self, options: EngineOptions, platform: Platform | None, *, scored: bool) -> bool:
        """Whether it still says what deploying now would."""
        done = self.deployment
        complete = done.shipped is not None and (done.score is not None or not scored)
        return complete and self.options == options and done.platform == platform


def deployment(
    store: Store,
    described: Stage[CalibratedNetwork],
    searched: Stage[Searched],
    gpu: Gpu,
    judge: Stage[Judge | None] = JUDGE,
) -> Deployment | None:
    """What happened on the device: done now, or kept from this or another machine; None if it never was done.

    Args:
        store: The run's.
        described: The network.
        searched: What the search found.
        gpu: Where engines are built.
        judge: Scores an engine; a value of None where there is no evaluation data.
    """
    stage = _stage(store, described, searched, gpu, judge)
    kept = store.kept(stage)
    if gpu.platform is None:
        return kept.deployment if kept else None
    scored = store[judge] is not None
    if gpu.is_remote and not (kept and kept.holds(store.settings.engine, gpu.platform, scored=scored)):
        return gpu.run_remotely(RemoteTask.SHIP, Deployment)
    return store[stage].deployment


def _stage(
    store: Store,
    described: Stage[CalibratedNetwork],
    searched: Stage[Searched],
    gpu: Gpu,
    judge: Stage[Judge | None],
) -> Stage[_Kept]:
    emitter = Stage(
        "searched-emitter", lambda job: job[searched].emitter(job[described].network(job.folder), job.folder),
        needs=(described, searched),
    )  # fmt: skip
    plans = tuple(candidates_of(store[described].grouping, store[searched].result))
    builds = Builds(described, emitter, gpu.stage)
    emitted = {name: builds.emitted(name, plan) for name, plan, _ in plans}
    built = {name: builds.built(name, plan) for name, plan, _ in plans}

    def make(job: Job) -> _Kept:
        candidates = tuple(Candidate(name, plan, job[built[name]], feasible) for name, plan, feasible in plans)
        constraints = {name: job[network].constraints for name, network in emitted.items()}
        return _Kept(job.settings.engine, deploy(builds.engines(store), candidates, constraints, job[judge]))

    return Stage(
        "deployment", make, json_kind(_Kept), needs=(described, searched),
        uses=("engine", judge, *emitted.values(), *built.values()),
        holds=lambda kept, job: kept.holds(job.settings.engine, gpu.platform, scored=job[judge] is not None),
    )  # fmt: skip
