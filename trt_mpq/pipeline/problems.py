"""What a search is asked to solve: one problem per ladder of precisions."""

from __future__ import annotations

from functools import partial

from trt_mpq.artifacts.stage import Job, Stage, content_digest
from trt_mpq.evaluate.plans import PlanEvaluator
from trt_mpq.groups.pins import pinned
from trt_mpq.latency.base import Latency
from trt_mpq.latency.cost_terms import latency_costs
from trt_mpq.latency.size import size_costs, weight_bytes
from trt_mpq.pipeline.calibration import CalibrationStages
from trt_mpq.pipeline.scoring import REQUIRED, TOLERANCE
from trt_mpq.pipeline.sources import TARGET
from trt_mpq.pipeline.task import METRIC
from trt_mpq.search import Budget, Cost, Limit, Problem, ladders_of
from trt_mpq.types import Grouping, Precision, Ranking


def problems_of(
    calibration: CalibrationStages,
    grouping: Stage[Grouping],
    ranking: Stage[Ranking],
    evaluator: Stage[PlanEvaluator],
    latency: Stage[Latency],
) -> Stage[tuple[Problem, ...]]:
    """One problem per ladder; raises SettingsError if nothing is known of a precision's latency."""
    network = calibration.scored.network

    def make(job: Job) -> tuple[Problem, ...]:
        settings, groups, latencies = job.settings, job[grouping], job[latency]
        tell = partial(job.observer.evaluated, metric=job[METRIC].name, required=job[REQUIRED])
        other_parameters = job[network].model.parameters - groups.weight_elements

        def problem(ladder: tuple[Precision, ...]) -> Problem:
            options = groups.options(ladder)
            time = Cost(latencies.plan_ms, latency_costs(latencies, options))
            limit = None
            if settings.target_latency is not None:
                limit = Limit(f"takes at most {settings.target_latency:g} ms", settings.target_latency, time)
            elif settings.target_size is not None:
                costs = size_costs(groups, other_parameters, options)
                size = Cost(lambda plan: weight_bytes(plan, groups, other_parameters), costs)
                limit = Limit(f"takes at most {settings.target_size} bytes", settings.target_size, size)
            return Problem(
                grouping=groups, ladder=ladder, ranking=job[ranking], evaluate=job[evaluator], latency=time,
                required=job[REQUIRED], tolerance=job[TOLERANCE], limit=limit,
                budget=Budget(settings.max_evaluations, settings.max_seconds), notify=tell,
            )  # fmt: skip

        return tuple(map(problem, ladders_of(settings.precisions, () if settings.mix_formats else job[TARGET].apart)))

    return Stage(
        "problems", make, needs=(METRIC, REQUIRED, TOLERANCE, network, grouping, ranking, evaluator, latency, TARGET),
        reads=("target_latency", "target_size", "max_evaluations", "max_seconds", "precisions", "mix_formats"),
    )  # fmt: skip


def pinned_groups_of(calibration: CalibrationStages) -> Stage[Grouping]:
    """The groups, with what calibration forbids and the user decided."""
    network = calibration.scored.network
    return Stage(
        "pinned-groups", lambda job: pinned(job[network].grouping, job.settings.keep, job.settings.exclude),
        needs=(network,), reads=("keep", "exclude"), digest=content_digest(Grouping),
    )  # fmt: skip
