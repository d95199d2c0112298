"""From the calibrated network to the plan that a search finds."""

from __future__ import annotations

from dataclasses import dataclass, replace

from trt_mpq.artifacts.stage import Job, Stage, json_kind
from trt_mpq.artifacts.store import Store
from trt_mpq.evaluate.plans import PlanEvaluator
from trt_mpq.latency.base import KernelCosts, Latency
from trt_mpq.pipeline.baseline import NO_FAULT, baseline_fault_of, explained
from trt_mpq.pipeline.calibration import CalibrationStages
from trt_mpq.pipeline.gpu import Gpu
from trt_mpq.pipeline.latency import choose_latency, energy_of
from trt_mpq.pipeline.problems import pinned_groups_of, problems_of
from trt_mpq.pipeline.ranking import UNRANKED, RankingStages
from trt_mpq.pipeline.refinement import SharedRefinements
from trt_mpq.pipeline.scoring import REQUIRED, SCORER, STOP
from trt_mpq.search import Problem, merged, search_from_name
from trt_mpq.types import Grouping, Ranking, SearchResult

_SEARCH = "search"
"""What the outcome is kept as, however it came about."""


@dataclass(frozen=True)
class Settled:
    """The outcome of a search where no ranking can change it; None where one may."""

    found: SearchResult | None


@dataclass(frozen=True)
class SearchStages:
    """The stages of a search.

    Attributes:
        grouping: The groups, with what calibration forbids and the user decided.
        shared: The refinements that all plans share.
        ranking: What the search goes by, and what that is compared with.
        latency: Times plans.
        energy: What plans take of energy; None where nobody says what the device draws.
        evaluator: Scores plans.
        problems: What is searched, one problem per ladder.
        result: The fastest plan found that keeps the accuracy target, and every plan that was tried.
        fault: Why high precision alone is worse than FP32, empty where accuracy is not the target.
    """

    grouping: Stage[Grouping]
    shared: Stage[SharedRefinements]
    ranking: RankingStages
    latency: Stage[Latency]
    energy: Stage[KernelCosts | None]
    evaluator: Stage[PlanEvaluator]
    problems: Stage[tuple[Problem, ...]]
    result: Stage[SearchResult]
    fault: Stage[str]

    def seconds(self, store: Store) -> float:
        """What the ranking and all evaluations of the search took, when they were done."""
        evaluator, path = store[self.evaluator], store[self.result].path
        plans = sum(evaluator.seconds(tried.plan) for tried in path)
        files = sum(evaluator.delivered_seconds(tried.plan) for tried in path if tried.delivered)
        return store.seconds(self.ranking.first) + plans + files


def choose_search(store: Store, calibration: CalibrationStages, ranking: RankingStages, gpu: Gpu) -> SearchStages:
    """The stages of a search of the calibrated network; latencies are measured if they have to be.

    Groups are ranked only where that may change what is found: the fastest plan of all is tried before.

    Raises:
        TrtMpqError: The metric does not work on FP32, or there are no latencies such as were asked for.
    """
    store.ensure(REQUIRED)  # before anything is measured on a device
    shared, latency = calibration.choose_refinements(store), choose_latency(store, calibration.described, gpu)
    energy = energy_of(calibration.described, latency)
    grouping, evaluator = pinned_groups_of(calibration), _plan_evaluator(calibration, shared)

    def problems_by(ranking: Stage[Ranking]) -> Stage[tuple[Problem, ...]]:
        return problems_of(calibration, grouping, ranking, evaluator, latency, energy)

    fault = baseline_fault_of(calibration.scored.network) if store.settings.seeks_target else NO_FAULT
    settled = _settled(problems_by(UNRANKED), fault)
    is_settled = store[settled].found is not None
    if is_settled and not ranking.others:
        ranking = replace(ranking, first=UNRANKED)
    problems = problems_by(ranking.first)
    result = _taken(settled) if is_settled else _searched(store, problems, fault)
    return SearchStages(grouping, shared, ranking, latency, energy, evaluator, problems, result, fault)


def _settled(unranked: Stage[tuple[Problem, ...]], fault: Stage[str]) -> Stage[Settled]:
    def make(job: Job) -> Settled:
        with explained(job, fault):
            return Settled(search_from_name(job.settings.search).unranked(job[unranked]))

    return Stage(
        "settled", make, json_kind(Settled), needs=(unranked,), reads=("search",), uses=(fault,),
        title="Trying the fastest plan",
    )  # fmt: skip


def _taken(settled: Stage[Settled]) -> Stage[SearchResult]:
    def take(job: Job) -> SearchResult:
        found = job[settled].found
        assert found is not None
        return found

    return Stage(_SEARCH, take, json_kind(SearchResult), needs=(settled,))


def _searched(
    store: Store,
    problems: Stage[tuple[Problem, ...]],
    fault: Stage[str],
) -> Stage[SearchResult]:
    def search(job: Job) -> SearchResult:
        with explained(job, fault):
            return merged(search_from_name(job.settings.search), job[problems])

    return Stage(
        _SEARCH, search, json_kind(SearchResult), needs=(problems,), reads=("search",),
        uses=(fault,), title=f"Searching ({store.settings.search})",
    )  # fmt: skip


def _plan_evaluator(calibration: CalibrationStages, shared: Stage[SharedRefinements]) -> Stage[PlanEvaluator]:
    network, cache = calibration.scored.network, calibration.scored.cache
    return Stage(
        "plan-evaluator",
        lambda job: PlanEvaluator.of(job[network], job[shared].refinements, job[SCORER], job[cache], job[STOP]),
        needs=(network, shared, SCORER, cache, STOP),
    )  # fmt: skip
