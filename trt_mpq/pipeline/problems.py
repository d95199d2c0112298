"""What a search is asked to solve: one problem per ladder of precisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from trt_mpq.artifacts.stage import Job, Stage, content_digest
from trt_mpq.emit import Network
from trt_mpq.evaluate.plans import PlanEvaluator
from trt_mpq.evaluate.score_scale import score_texts
from trt_mpq.groups.pins import pinned
from trt_mpq.latency.base import KernelCosts, Latency
from trt_mpq.latency.cost_terms import kernel_terms
from trt_mpq.latency.size import size_costs, weight_bytes
from trt_mpq.pipeline.own_scales import NOTHING_KNOWN, Known
from trt_mpq.pipeline.scoring import REQUIRED
from trt_mpq.pipeline.sources import TARGET
from trt_mpq.pipeline.task import METRIC
from trt_mpq.search import Budget, Cost, Limit, Problem, ladders_of
from trt_mpq.types import Grouping, Precision, Ranking


def problems_of(
    network: Stage[Network],
    grouping: Stage[Grouping],
    ranking: Stage[Ranking],
    evaluator: Stage[PlanEvaluator],
    latency: Stage[Latency],
    energy: Stage[KernelCosts | None],
    known: Stage[Known] = NOTHING_KNOWN,
) -> Stage[tuple[Problem, ...]]:
    """One problem per ladder; raises SettingsError if nothing is known of a precision's latency."""

    def make(job: Job) -> tuple[Problem, ...]:
        settings, groups, latencies, before = job.settings, job[grouping], job[latency], job[known]
        tell = partial(job.observer.evaluated, metric=job[METRIC].name, required=job[REQUIRED])
        other_parameters = job[network].model.parameters - groups.weight_elements

        def size_cost(options: Mapping[str, Sequence[Precision]]) -> Cost:
            costs = size_costs(groups, other_parameters, options)
            return Cost(
                lambda plan: weight_bytes(plan, groups, other_parameters), costs, "bytes", "smaller", "smallest"
            )

        def energy_cost(options: Mapping[str, Sequence[Precision]]) -> Cost | None:
            model = job[energy]
            if model is None or settings.objective != "energy":
                return None
            return Cost(model.plan_cost, kernel_terms(model, options), "mJ", "more frugal", "most frugal")

        def problem(ladder: tuple[Precision, ...]) -> Problem:
            options = groups.options(ladder)
            time, size = Cost(latencies.plan_ms, kernel_terms(latencies, options)), size_cost(options)
            objectives = {"latency": None, "energy": energy_cost(options), "size": size}
            hint, limit = before.plan, None
            if hint is not None and not all(precision in options[group] for group, precision in hint.assignments):
                hint = None  # it is of another ladder
            if settings.target_latency is not None:
                limit = Limit(f"takes at most {settings.target_latency:g} ms", settings.target_latency, time)
            elif settings.target_size is not None:
                limit = Limit(f"takes at most {settings.target_size} bytes", settings.target_size, size)
            return Problem(
                grouping=groups, ladder=ladder, ranking=job[ranking], evaluate=job[evaluator], latency=time,
                required=job[REQUIRED], objective=objectives[settings.objective], limit=limit,
                budget=Budget(settings.max_evaluations, settings.max_seconds), hint=hint, below=before.below,
                notify=tell if before.aloud else lambda evaluation: None,
                in_words=partial(score_texts, job[METRIC].name),
            )  # fmt: skip

        return tuple(map(problem, ladders_of(settings.precisions, () if settings.mix_formats else job[TARGET].apart)))

    return Stage(
        "problems", make,
        needs=(METRIC, REQUIRED, network, grouping, ranking, evaluator, latency, energy, TARGET, known),
        reads=(
            "objective", "target_latency", "target_size", "max_evaluations", "max_seconds", "precisions", "mix_formats",
        ),
    )  # fmt: skip


def pinned_groups_of(network: Stage[Network]) -> Stage[Grouping]:
    """The groups, with what calibration forbids and the user decided."""
    return Stage(
        "pinned-groups", lambda job: pinned(job[network].grouping, job.settings.keep, job.settings.exclude),
        needs=(network,), reads=("keep", "exclude"), digest=content_digest(Grouping),
    )  # fmt: skip
