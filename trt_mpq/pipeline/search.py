"""From the calibrated network to the plan that a search finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trt_mpq.artifacts.stage import Job, Stage, content_digest, json_kind
from trt_mpq.artifacts.store import Store
from trt_mpq.evaluate.plans import PlanEvaluator
from trt_mpq.groups.pins import pinned
from trt_mpq.latency.roofline import Latency, size_costs, weight_bytes
from trt_mpq.pipeline.calibrated import Calibrated
from trt_mpq.pipeline.gpu import Gpu
from trt_mpq.pipeline.latency import latency
from trt_mpq.pipeline.ranking import Rankings
from trt_mpq.pipeline.refinement import Kept
from trt_mpq.pipeline.scoring import REQUIRED, SCORER, STOP
from trt_mpq.pipeline.workers import Team
from trt_mpq.search import Budget, Cost, Limit, Problem, ladders_of, search_from_name
from trt_mpq.types import Grouping, Precision, SearchResult


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


def search(store: Store, calibrated: Calibrated, rankings: Rankings, gpu: Gpu, team: Stage[Team]) -> Found:
    """The stages of a search of the calibrated network.

    Raises:
        TrtMpqError: The metric does not work on FP32, or there are no latencies such as were asked for.
    """
    store[REQUIRED]  # before anything is measured on a device
    kept, timed = calibrated.kept(store), latency(store, calibrated.described, gpu)
    grouping = pinned_groups(calibrated)
    evaluator = _evaluator(calibrated, kept)
    problems = _problems(calibrated, grouping, rankings, evaluator, timed)
    return Found(grouping, kept, rankings, timed, evaluator, problems, _result(store, problems, evaluator, team))


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


def _problems(
    calibrated: Calibrated,
    grouping: Stage[Grouping],
    rankings: Rankings,
    evaluator: Stage[PlanEvaluator],
    timed: Stage[Latency],
) -> Stage[tuple[Problem, ...]]:
    """One problem per ladder; raises SettingsError if nothing is known of a precision's latency."""
    of = calibrated.scored.network

    def make(job: Job) -> tuple[Problem, ...]:
        settings, groups, latencies = job.settings, job[grouping], job[timed]
        other_parameters = job[of].model.parameters - groups.weight_elements

        def problem(ladder: tuple[Precision, ...]) -> Problem:
            options = _options(groups, ladder)
            time = Cost(latencies.plan_ms, latencies.costs(options))
            limit = None
            if settings.target_latency is not None:
                limit = Limit(f"takes at most {settings.target_latency:g} ms", settings.target_latency, time)
            elif settings.target_size is not None:
                costs = size_costs(groups, other_parameters, options)
                size = Cost(lambda plan: weight_bytes(plan, groups, other_parameters), costs)
                limit = Limit(f"takes at most {settings.target_size} bytes", settings.target_size, size)
            return Problem(
                grouping=groups, ladder=ladder, ranking=job[rankings.first], evaluate=job[evaluator], latency=time,
                required=job[REQUIRED], limit=limit,
                budget=Budget(settings.max_evaluations, settings.max_seconds), notify=job.observer.evaluated,
            )  # fmt: skip

        return tuple(map(problem, ladders_of(settings.precisions, settings.mix_formats)))

    return Stage(
        "problems", make, needs=(REQUIRED, of, grouping, rankings.first, evaluator, timed),
        reads=("target_latency", "target_size", "max_evaluations", "max_seconds", "precisions", "mix_formats"),
    )  # fmt: skip


def _result(
    store: Store, problems: Stage[tuple[Problem, ...]], evaluator: Stage[PlanEvaluator], team: Stage[Team]
) -> Stage[SearchResult]:
    return Stage(
        "search",
        lambda job: job[team].search(search_from_name(job.settings.search), job[problems], job[evaluator]),
        json_kind(SearchResult), needs=(problems, evaluator), reads=("search",), uses=(team,),
        title=f"Searching ({store.settings.search})",
    )  # fmt: skip


def _options(grouping: Grouping, ladder: Sequence[Precision]) -> dict[str, tuple[Precision, ...]]:
    """What each group may run in: the rungs it allows, or the widest it can where it does not allow the first."""
    return {
        g.id: tuple(p for p in Precision if p is g.widest(ladder[0], grouping.refuge) or (p in ladder and g.allows(p)))
        for g in grouping.groups
    }
