"""The choice whether fewer operands of Concats have scales of their own than let the fastest plan keep the target.

A requantization is one price of resolution, groups in high precision are another, and which is lower only searches
tell. So where a tie would make the plan that is found faster, plans with it are searched too: that plan first, and then
only what is faster than it was. What is found so stays, and one more operand is tied, until nothing is found.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from trt_mpq.artifacts.stage import Job, Stage
from trt_mpq.artifacts.store import Store
from trt_mpq.emit import Refinements
from trt_mpq.errors import TargetNotReachable
from trt_mpq.pipeline.baseline import NO_FAULT
from trt_mpq.pipeline.calibration import CalibrationStages
from trt_mpq.pipeline.fastest import fastest_of, modelled_of
from trt_mpq.pipeline.own_scales import Known, fewer_of_their_own
from trt_mpq.pipeline.problems import pinned_groups_of, problems_of
from trt_mpq.pipeline.ranking import UNRANKED
from trt_mpq.pipeline.refinement import SharedRefinements
from trt_mpq.pipeline.search import choose_result, plan_evaluator_of
from trt_mpq.search.settled import WORTH_TRYING
from trt_mpq.settings import Settings
from trt_mpq.types import Precision, Ranking, SearchResult


def choose_ties(store: Store, calibration: CalibrationStages, ranking: Stage[Ranking]) -> CalibrationStages:
    """`calibration` with as few operands of Concats in scales of their own as gives the fastest plan.

    Plans are timed by the latency model, and refined as those that calibration methods are chosen by.

    Args:
        store: The run.
        calibration: Has so many of them that the fastest plan keeps the target, if there is such a number.
        ranking: Of its groups; in other scales it is nearly the same, and what is found corrects it.
    """
    if not _is_searched(store.settings, calibration):
        return calibration
    found: Stage[SearchResult] | None = None
    for ratio in fewer_of_their_own(store, calibration.states[-1]):
        fewer = calibration.in_scales(ratio)
        if not _saves(_fastest_ms(store, calibration), _fastest_ms(store, fewer)):
            continue
        try:
            found = found or _searched(store, calibration, ranking, _QUIETLY)
        except TargetNotReachable:
            return calibration  # the search will say so, and why
        before = store[found].chosen
        if not _saves(before.latency_ms, store[modelled_of(fewer.scored.groups)].plan_ms(before.plan)):
            continue
        # Where the first search was settled, nothing was ranked, and need not be for this one.
        by = UNRANKED if store[found].unranked is not None else ranking
        after = _searched(store, fewer, by, _beyond(found))
        if not _saves(before.latency_ms, store[after].chosen.latency_ms):
            break
        calibration, found = replace(fewer, known=_known(after)), after
    return calibration


def _is_searched(settings: Settings, calibration: CalibrationStages) -> bool:
    """Whether there is a search that can be limited to what is faster, and a scale to choose."""
    limited = settings.max_evaluations is not None or settings.max_seconds is not None  # a budget is for one search
    return (
        Precision.INT8 in calibration.choices
        and settings.seeks_target
        and settings.search == "ilp"
        and settings.objective == "latency"
        and not limited
    )


def _saves(before_ms: float, after_ms: float) -> bool:
    return after_ms < before_ms * (1 - WORTH_TRYING)


def _fastest_ms(store: Store, calibration: CalibrationStages) -> float:
    """What the fastest plan takes, whether or not it keeps the target."""
    groups = calibration.scored.groups
    return store[modelled_of(groups)].plan_ms(store[fastest_of(groups, Precision.INT8)])


def _searched(
    store: Store, calibration: CalibrationStages, ranking: Stage[Ranking], known: Stage[Known]
) -> Stage[SearchResult]:
    """What is found in the scales of `calibration`; raises TargetNotReachable if nothing is."""
    scored = calibration.scored
    grouping, evaluator = pinned_groups_of(scored.network), plan_evaluator_of(scored, _refinements(store, calibration))
    problems_by = partial(
        problems_of, scored.network, grouping, evaluator=evaluator, latency=modelled_of(scored.groups),
        energy=_NO_ENERGY, known=known,
    )  # fmt: skip
    variant = f"-in-scales-{calibration.states[-1].own_scales:.4g}"
    return choose_result(store, lambda by: problems_by(ranking=by), ranking, NO_FAULT, variant)[1]


def _refinements(store: Store, calibration: CalibrationStages) -> Stage[SharedRefinements]:
    parts = tuple(calibration.nearest.values()) if store.settings.bias_correction else ()

    def make(job: Job) -> SharedRefinements:
        corrections = {key: shift for part in parts for key, shift in job[part].items()}
        return SharedRefinements(Refinements(corrections=corrections))

    return Stage("nearest-refinements", make, needs=parts, digest=lambda shared: shared.refinements.digest)


_NO_ENERGY: Stage[None] = Stage("no-energy", lambda job: None)
_QUIETLY = Stage("known-before", lambda job: Known(aloud=False))


def _beyond(found: Stage[SearchResult]) -> Stage[Known]:
    """The plan that was found, and that only faster ones are of use."""

    def make(job: Job) -> Known:
        chosen = job[found].chosen
        return Known(chosen.plan, chosen.latency_ms, aloud=False)

    return Stage("known-beyond", make, needs=(found,))


def _known(found: Stage[SearchResult]) -> Stage[Known]:
    """The plan that was found."""
    return Stage("known-plan", lambda job: Known(job[found].chosen.plan), needs=(found,))
