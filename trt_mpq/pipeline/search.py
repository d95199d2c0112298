"""From the calibrated network to the plan that a search finds."""

from __future__ import annotations

from dataclasses import dataclass

from trt_mpq.artifacts.stage import Stage, content_digest, json_kind
from trt_mpq.artifacts.store import Store
from trt_mpq.evaluate.plans import PlanEvaluator
from trt_mpq.groups.pins import pinned
from trt_mpq.latency.base import Latency
from trt_mpq.pipeline.calibrated import Calibrated
from trt_mpq.pipeline.gpu import Gpu
from trt_mpq.pipeline.latency import latency
from trt_mpq.pipeline.problems import problems
from trt_mpq.pipeline.ranking import Rankings
from trt_mpq.pipeline.refinement import Kept
from trt_mpq.pipeline.scoring import REQUIRED, SCORER, STOP
from trt_mpq.pipeline.workers import Workers
from trt_mpq.search import Problem, search_from_name
from trt_mpq.types import Grouping, SearchResult


@dataclass(frozen=True)
class Found:
    """The stages of a search.

    Attributes:
        grouping: The groups, with what calibration forbids and the user decided.
        kept: The refinements that all plans share.
        rankings: What the search goes by, and what that is compared with.
        latency: Times plans.
        evaluator: Scores plans.
        problems: What is searched, one problem per ladder.
        result: The fastest plan found that keeps the accuracy target, and every plan that was tried.
    """

    grouping: Stage[Grouping]
    kept: Stage[Kept]
    rankings: Rankings
    latency: Stage[Latency]
    evaluator: Stage[PlanEvaluator]
    problems: Stage[tuple[Problem, ...]]
    result: Stage[SearchResult]

    def seconds(self, store: Store) -> float:
        """What the ranking and all evaluations of the search took, when they were done."""
        evaluator, path = store[self.evaluator], store[self.result].path
        plans = sum(evaluator.seconds(tried.plan) for tried in path)
        files = sum(evaluator.delivered_seconds(tried.plan) for tried in path if tried.delivered)
        return store.seconds(self.rankings.first) + plans + files


def search(store: Store, calibrated: Calibrated, rankings: Rankings, gpu: Gpu, workers: Stage[Workers]) -> Found:
    """The stages of a search of the calibrated network.

    Raises:
        TrtMpqError: The metric does not work on FP32, or there are no latencies such as were asked for.
    """
    store[REQUIRED]  # before anything is measured on a device
    kept, timed = calibrated.kept(store), latency(store, calibrated.described, gpu)
    grouping = pinned_groups(calibrated)
    evaluator = _evaluator(calibrated, kept)
    asked = problems(calibrated, grouping, rankings, evaluator, timed)
    return Found(grouping, kept, rankings, timed, evaluator, asked, _result(store, asked, evaluator, workers))


def pinned_groups(calibrated: Calibrated) -> Stage[Grouping]:
    """The groups, with what calibration forbids and the user decided."""
    return Stage(
        "pinned-groups",
        lambda job: pinned(job[calibrated.scored.network].grouping, job.settings.keep, job.settings.exclude),
        needs=(calibrated.scored.network,), reads=("keep", "exclude"), digest=content_digest(Grouping),
    )  # fmt: skip


def _evaluator(calibrated: Calibrated, kept: Stage[Kept]) -> Stage[PlanEvaluator]:
    of, cache = calibrated.scored.network, calibrated.scored.cache
    return Stage(
        "plan-evaluator",
        lambda job: PlanEvaluator.of(job[of], job[kept].refinements, job[SCORER], job[cache], job[STOP]),
        needs=(of, kept, SCORER, cache, STOP),
    )  # fmt: skip


def _result(
    store: Store, asked: Stage[tuple[Problem, ...]], evaluator: Stage[PlanEvaluator], workers: Stage[Workers]
) -> Stage[SearchResult]:
    return Stage(
        "search",
        lambda job: job[workers].search(search_from_name(job.settings.search), job[asked], job[evaluator]),
        json_kind(SearchResult), needs=(asked, evaluator), reads=("search",), uses=(workers,),
        title=f"Searching ({store.settings.search})",
    )  # fmt: skip
