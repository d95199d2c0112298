"""The choice of a calibration method for every format.

Which clipping serves a network best cannot be told from its tensors alone: the least squared error wins on one and
loses to the plain largest magnitude on the next. Trying costs a few passes over the evaluation set; keeping groups in
FP16 because of a range chosen badly costs latency for good. Where no uniform plan will do, their scores say little
about mixed ones: they are far from the target, and corrections of biases make up for clipping that ruins single groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trt_mpq.artifacts.stage import Job, Stage, json_kind
from trt_mpq.artifacts.store import Store
from trt_mpq.emit import Refinements
from trt_mpq.evaluate.plans import PlanEvaluator
from trt_mpq.pipeline.model_states import State
from trt_mpq.pipeline.networks import candidate_ranges_of, network_of
from trt_mpq.pipeline.refinement import nearest_corrections
from trt_mpq.pipeline.scoring import (
    REQUIRED,
    SCORER,
    STOP,
    TOLERANCE,
    score_cache_of,
    uniform_judgement,
    uniform_score,
)
from trt_mpq.types import Grouping, Precision, PrecisionPlan, Ranges


@dataclass(frozen=True)
class Trial:
    """What the uniform plan of a precision scores with the ranges of a method, its biases corrected if that helps.

    `keeps_target` is about the file that would be delivered too; it is None where no accuracy is asked for.
    `corrected` says whether the biases are. Where `complete` is false the evaluation ended early, sure that the target
    is missed, and the score is an estimate.
    """

    precision: Precision
    method: str
    score: float
    keeps_target: bool | None
    corrected: bool
    complete: bool = True


@dataclass(frozen=True)
class Choice:
    """The method of a format, and how it was chosen.

    Attributes:
        method: The method; empty where nothing is calibrated, because weights alone are quantized.
        scores: What the uniform plan scores by each method that was tried, None where less than every sample told that
            it misses; none where there was no choice.
        by_mixed_plans: Whether plans that are not uniform decided.
    """

    method: str
    scores: Mapping[str, float | None] = field(default_factory=dict)
    by_mixed_plans: bool = False


def choose_methods(store: Store, state: State) -> Mapping[Precision, Choice]:
    """The calibration method of every format: the first whose uniform plan keeps the target.

    If none does, or no accuracy is asked for, plans will be mixed, and it is the one with which a mixed plan scores
    best. A method is tried only if those before it miss, and learned rounding comes after the choice. If there is one
    method only, it is not tried.
    """
    methods, calibrated = store.settings.calibration, store.settings.calibrated
    if len(methods) > 1 and calibrated and store.settings.seeks_target:
        store.ensure(REQUIRED)  # first of all, because a metric that does not work fails on FP32

    def choice(precision: Precision) -> Choice:
        if precision not in calibrated:
            return Choice("")
        return Choice(methods[0]) if len(methods) == 1 else _chosen(store, state, precision)

    return {precision: choice(precision) for precision in store.settings.formats}


def _chosen(store: Store, state: State, precision: Precision) -> Choice:
    trials = tuple(_tried(store, state, precision))
    uniform = {trial.method: trial.score if trial.complete else None for trial in trials}
    kept = next((trial.method for trial in trials if trial.keeps_target), None)
    if kept is not None or len(trials) == 1:
        return Choice(kept or trials[0].method, uniform)
    best = max(trials, key=lambda trial: (store[_mixed_score(state, trial)], trial.score))
    return Choice(best.method, uniform, by_mixed_plans=True)


def _tried(store: Store, state: State, precision: Precision) -> Iterator[Trial]:
    seen: list[Ranges] = []
    for ranges in store[candidate_ranges_of(state)]:
        if not any(ranges.agrees(other, precision) for other in seen):
            seen.append(ranges)
            trial = store[_trial(store, state, precision, ranges.methods[precision])]
            yield trial
            if trial.keeps_target:
                return


def _trial(store: Store, state: State, precision: Precision, method: str) -> Stage[Trial]:
    network, cache = network_of(state, {precision: method}), score_cache_of(state)
    corrections = nearest_corrections(network, precision, method)

    def make(job: Job) -> Trial:
        def trial(refinements: Refinements) -> Trial:
            corrected = bool(refinements.corrections)
            text = f"by {method}{', with bias correction' if corrected else ''}"
            if not job.settings.seeks_target:
                score = uniform_score(job, cache, job[network], precision, text, refinements)
                return Trial(precision, method, score, None, corrected)
            evaluator = PlanEvaluator.of(job[network], refinements, job[SCORER], job[cache], job[STOP])
            uniform = job[network].grouping.uniform(precision)
            judged = uniform_judgement(job, evaluator, uniform, precision, text)
            keeps = judged.feasible and evaluator.delivered(uniform).stands(job[TOLERANCE])
            return Trial(precision, method, judged.score.value, keeps, corrected, judged.complete)

        if not job.settings.bias_correction:
            return trial(Refinements())
        corrected = trial(Refinements(corrections=job[corrections]))
        # Where that keeps the target, what it would score without decides nothing.
        return corrected if corrected.keeps_target else max(corrected, trial(Refinements()), key=lambda t: t.score)

    needs: tuple[Stage[Any], ...] = (network, cache, SCORER)
    needs = (REQUIRED, TOLERANCE, STOP, *needs) if store.settings.seeks_target else needs
    needs = (*needs, corrections) if store.settings.bias_correction else needs
    return Stage(
        f"calibration-{precision}-{method}", make, json_kind(Trial), needs=needs,
        reads=("bias_correction", "seeks_target"),
    )  # fmt: skip


def _mixed_score(state: State, trial: Trial) -> Stage[float]:
    """What a plan scores that has about half of the groups lowered, its biases corrected if the trial's were."""
    precision, method, corrected = trial.precision, trial.method, trial.corrected
    network, cache = network_of(state, {precision: method}), score_cache_of(state)
    corrections = nearest_corrections(network, precision, method)

    def make(job: Job) -> float:
        refinements = Refinements(corrections=job[corrections]) if corrected else Refinements()
        evaluator = PlanEvaluator.of(job[network], refinements, job[SCORER], job[cache])
        title = f"Scoring half {precision} by {method}"
        return evaluator.score(half_lowered(job[network].grouping, precision), lambda: job.observer.stage(title)).value

    needs: tuple[Stage[Any], ...] = (network, cache, SCORER)
    return Stage(
        f"mixed-{precision}-{method}", make, json_kind(float), needs=(*needs, corrections) if corrected else needs,
        constants=(corrected,),
    )  # fmt: skip


def half_lowered(grouping: Grouping, precision: Precision) -> PrecisionPlan:
    """The plan with half of the groups that allow `precision` in it, the rest in high precision.

    Which half is drawn, always in the same way: any rule could be in step with layers that take turns, such as
    depthwise and pointwise convolutions.
    """
    allowed = [group.id for group in grouping.groups if group.allows(precision)]
    drawn = np.random.default_rng(0).permutation(len(allowed))[: (len(allowed) + 1) // 2]
    return grouping.uniform(grouping.top).replace({allowed[number]: precision for number in drawn})
