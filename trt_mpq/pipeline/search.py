"""From the calibrated network to the plan that a search finds."""

from __future__ import annotations

from collections.abc import Callable
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
from trt_mpq.pipeline.scored import ScoredNetwork
from trt_mpq.pipeline.scoring import REQUIRED, STOP
from trt_mpq.search import Problem, merged, search_from_name
from trt_mpq.types import Grouping, Ranking, SearchResult


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
    network = calibration.scored.network
    grouping, evaluator = pinned_groups_of(network), plan_evaluator_of(calibration.scored, shared)

    def problems_by(ranking: Stage[Ranking]) -> Stage[tuple[Problem, ...]]:
        return problems_of(network, grouping, ranking, evaluator, latency, energy, calibration.known)

    fault = baseline_fault_of(network) if store.settings.seeks_target else NO_FAULT
    used, result = choose_result(store, problems_by, ranking.first, fault)
    ranking = ranking if ranking.others else replace(ranking, first=used)
    problems = problems_by(ranking.first)
    return SearchStages(grouping, shared, ranking, latency, energy, evaluator, problems, result, fault)


def choose_result(
    store: Store,
    problems_by: Callable[[Stage[Ranking]], Stage[tuple[Problem, ...]]],
    ranking: Stage[Ranking],
    fault: Stage[str],
    variant: str = "",
) -> tuple[Stage[Ranking], Stage[SearchResult]]:
    """What is found, and the ranking that it goes by: none where that can change nothing.

    Args:
        store: The run.
        problems_by: What is searched, given a ranking.
        ranking: What to go by where the fastest plan of all will not do.
        fault: Why high precision alone misses the target, if it does.
        variant: What the outcome carries behind its name.

    Raises:
        TargetNotReachable: No plan is worth a try, and the widest misses the target.
    """
    settled = _settled(problems_by(UNRANKED), fault, variant)
    if store[settled].found is not None:
        return UNRANKED, _taken(settled, variant)
    return ranking, _searched(store, problems_by(ranking), fault, variant)


def _settled(unranked: Stage[tuple[Problem, ...]], fault: Stage[str], variant: str) -> Stage[Settled]:
    def make(job: Job) -> Settled:
        with explained(job, fault):
            return Settled(search_from_name(job.settings.search).unranked(job[unranked]))

    return Stage(
        f"settled{variant}", make, json_kind(Settled), needs=(unranked,), reads=("search",), uses=(fault,),
        title="Trying the fastest plan",
    )  # fmt: skip


def _taken(settled: Stage[Settled], variant: str) -> Stage[SearchResult]:
    def take(job: Job) -> SearchResult:
        found = job[settled].found
        assert found is not None
        return found

    return Stage(f"search{variant}", take, json_kind(SearchResult), needs=(settled,))


def _searched(
    store: Store,
    problems: Stage[tuple[Problem, ...]],
    fault: Stage[str],
    variant: str,
) -> Stage[SearchResult]:
    def search(job: Job) -> SearchResult:
        with explained(job, fault):
            return merged(search_from_name(job.settings.search), job[problems])

    return Stage(
        f"search{variant}", search, json_kind(SearchResult), needs=(problems,), reads=("search",),
        uses=(fault,), title=f"Searching ({store.settings.search}){', which scales to share' if variant else ''}",
    )  # fmt: skip


def plan_evaluator_of(scored: ScoredNetwork, shared: Stage[SharedRefinements]) -> Stage[PlanEvaluator]:
    """Scores plans that share the refinements."""
    return Stage(
        "plan-evaluator", lambda job: scored.evaluator(job, job[shared].refinements, job[STOP]),
        needs=(*scored.needs(), shared, STOP),
    )  # fmt: skip
