"""The plan that a format is judged by before anything is searched: what a search of it alone would try first."""

from __future__ import annotations

from trt_mpq.artifacts.stage import Job, Stage
from trt_mpq.dataset.chunks import counted_batches
from trt_mpq.groups.pins import pinned
from trt_mpq.latency.cost_terms import kernel_terms
from trt_mpq.latency.roofline import LatencyModel
from trt_mpq.pipeline.sources import BATCH, PREPARED, TARGET
from trt_mpq.search.frontier import cheapest_of_all
from trt_mpq.types import Grouping, Precision, PrecisionPlan


def modelled_of(groups: Stage[Grouping]) -> Stage[LatencyModel]:
    """The modelled latency of plans of `groups`, wherever the latencies of the search come from."""

    def make(job: Job) -> LatencyModel:
        batches = counted_batches(job[PREPARED].inputs, job[BATCH])
        return LatencyModel(job[groups], job[TARGET], batches, tf32=job.settings.engine.tf32)

    return Stage("modelled-before-search", make, needs=(groups, PREPARED, BATCH, TARGET), reads=("engine.tf32",))


def fastest_of(groups: Stage[Grouping], precision: Precision) -> Stage[PrecisionPlan]:
    """The plan of `groups` in high precision and `precision` of the least modelled latency.

    Where that keeps the target nothing is left to search for. It is the uniform plan of `precision` where no plan is
    faster than high precision alone, where something else than latency is to be least or is the target, or where
    nothing is searched.
    """
    latency = modelled_of(groups)

    def make(job: Job) -> PrecisionPlan:
        settings = job.settings
        others = tuple(f"{other}:" for other in Precision if other.quantized and other is not precision)
        keep = [spec for spec in settings.keep if not spec.startswith(others)]
        grouping = pinned(job[groups], keep, settings.exclude)
        if settings.search == "uniform" or settings.objective != "latency" or not settings.seeks_target:
            return grouping.uniform(precision)
        ladder = (grouping.top, precision)
        plan = cheapest_of_all(kernel_terms(job[latency], grouping.options(ladder)), grouping, ladder).plan
        return grouping.uniform(precision) if plan in (None, grouping.uniform(grouping.top)) else plan

    return Stage(
        f"fastest-{precision}", make, needs=(groups, latency),
        reads=("search", "objective", "seeks_target", "keep", "exclude"),
        digest=lambda plan: plan.digest,
    )  # fmt: skip
