"""The choice of calibration methods: one for a format, or one for every tensor.

Which clipping serves a network best cannot be told from its tensors alone: the least squared error wins on one and
loses to the plain largest magnitude on the next. Trying costs a few passes over the evaluation set; keeping groups in
FP16 because of a range chosen badly costs latency for good. Where the fastest plan will not do, its scores say little
about gentler ones: they are far from the target, and corrections of biases make up for clipping that ruins single
groups.
So a plan of half the groups is asked, by every method and by a method for each tensor, the one with which its readers
disturb the outputs least (`sensitivity.range_noise`), told on the evaluation data too: on those that ranges are made
from, ranges look best that clip none of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trt_mpq.artifacts.stage import Job, Stage, json_kind
from trt_mpq.artifacts.store import Store
from trt_mpq.emit import Refinements
from trt_mpq.pipeline.model_states import State
from trt_mpq.pipeline.networks import candidate_ranges_of, network_of
from trt_mpq.pipeline.ranges_by_tensor import methods_by_tensor
from trt_mpq.pipeline.refinement import nearest_corrections
from trt_mpq.pipeline.scored import ScoredNetwork
from trt_mpq.pipeline.scoring import REQUIRED, STOP
from trt_mpq.types import PER_TENSOR, Grouping, Precision, PrecisionPlan, Ranges


@dataclass(frozen=True)
class Trial:
    """What the fastest plan of a precision scores with the ranges of a method, its biases corrected if that helps.

    `keeps_target` is about the file that would be delivered too. Where `complete` is false the evaluation ended early,
    sure that the target is missed, and the score is an estimate.
    """

    precision: Precision
    method: str
    score: float
    keeps_target: bool
    complete: bool


@dataclass(frozen=True)
class Choice:
    """The method of a format, and how it was chosen.

    Attributes:
        method: The method; empty where nothing is calibrated, because weights alone are quantized.
        scores: What the fastest plan scores by each method that was tried, None where less than every sample told that
            it misses; none where there was no choice.
        by_mixed_plans: Whether plans of half the groups decided.
        tensors: How many tensors have each method, where these differ.
        by_tensor: The method of every tensor, where these differ.
    """

    method: str
    scores: Mapping[str, float | None] = field(default_factory=dict)
    by_mixed_plans: bool = False
    tensors: Mapping[str, int] = field(default_factory=dict)
    by_tensor: Stage[Mapping[str, str]] | None = None


def choose_methods(store: Store, state: State) -> Mapping[Precision, Choice]:
    """The calibration method of every format: the first with which its fastest plan keeps the target.

    If none does, or no accuracy is asked for, plans will be mixed, and it is what a mixed plan scores best with: one of
    them, or for every tensor the one that serves it best.
    A method is tried only if those before it miss, and learned rounding comes after the choice. If there is one
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
    scores: dict[str, float | None] = {}
    methods = tuple(_different(store, state, precision))
    for method in methods if store.settings.seeks_target else ():
        trial = store[trial_of(store, state, precision, Choice(method))]
        scores[method] = trial.score if trial.complete else None
        if trial.keeps_target:
            return Choice(method, scores)
    if len(methods) == 1:
        return Choice(methods[0], scores)
    choices = [Choice(method, scores, by_mixed_plans=True) for method in methods]
    by_tensor = methods_by_tensor(state, precision, methods)
    if len(tensors := Counter(store[by_tensor].values())) > 1:
        choices.insert(0, Choice(PER_TENSOR, scores, True, tensors, by_tensor))
    return max(choices, key=lambda choice: store[_mixed_score(store, state, precision, choice)])


def _different(store: Store, state: State, precision: Precision) -> Iterator[str]:
    """The methods, without those that choose the same ranges as one before."""
    seen: list[Ranges] = []
    for ranges in store[candidate_ranges_of(state)]:
        if not any(ranges.agrees(other, precision) for other in seen):
            seen.append(ranges)
            yield ranges.methods[precision]


def trial_of(store: Store, state: State, precision: Precision, choice: Choice) -> Stage[Trial]:
    """What the fastest plan of `precision` scores with the ranges of the `choice`."""
    method, by_tensor = choice.method, choice.by_tensor
    network = network_of(state, {precision: method}, {precision: by_tensor} if by_tensor else None)
    scored = ScoredNetwork.of(network, state)
    fastest, corrections = scored.judged(precision), nearest_corrections(network, precision, method, state.variant)

    def make(job: Job) -> Trial:
        def trial(refinements: Refinements) -> Trial:
            text = f"by {method}{', with bias correction' if refinements.corrections else ''}"
            title, evaluator = scored.title(job, precision, text), scored.evaluator(job, refinements, job[STOP])
            judged = evaluator.tried(job[fastest], job[REQUIRED], lambda: job.observer.stage(title))
            keeps = judged.feasible and evaluator.keeps(job[fastest], job[REQUIRED])
            return Trial(precision, method, judged.score.value, keeps, judged.complete)

        if not job.settings.bias_correction:
            return trial(Refinements())
        corrected = trial(Refinements(corrections=job[corrections]))
        # Where that keeps the target, what it would score without decides nothing.
        if corrected.keeps_target:
            return corrected
        plain = trial(Refinements())
        return plain if plain.keeps_target else max(corrected, plain, key=lambda t: t.score)

    needs: tuple[Stage[Any], ...] = (REQUIRED, STOP, *scored.needs([precision]))
    needs = (*needs, corrections) if store.settings.bias_correction else needs
    return Stage(
        f"calibration-{precision}-{method}{state.variant}", make, json_kind(Trial), needs=needs,
        reads=("bias_correction",),
    )  # fmt: skip


def _mixed_score(store: Store, state: State, precision: Precision, choice: Choice) -> Stage[float]:
    """What a plan scores that has about half of the groups lowered, its biases corrected if that is wanted."""
    method, by_tensor = choice.method, {precision: choice.by_tensor} if choice.by_tensor else None
    network = network_of(state, {precision: method}, by_tensor)
    scored, corrections = ScoredNetwork.of(network, state), nearest_corrections(network, precision, method)
    corrected = store.settings.bias_correction

    def make(job: Job) -> float:
        refinements = Refinements(corrections=job[corrections]) if corrected else Refinements()
        plan, title = half_lowered(job[network].grouping, precision), f"Scoring half {precision} by {method}"
        return scored.evaluator(job, refinements).score(plan, lambda: job.observer.stage(title)).value

    needs = (*scored.needs(), corrections) if corrected else scored.needs()
    return Stage(f"mixed-{precision}-{method}", make, json_kind(float), needs=needs, constants=(corrected,))


def half_lowered(grouping: Grouping, precision: Precision) -> PrecisionPlan:
    """The plan with half of the groups that allow `precision` in it, the rest in high precision.

    Which half is drawn, always in the same way: any rule could be in step with layers that take turns, such as
    depthwise and pointwise convolutions.
    """
    allowed = [group.id for group in grouping.groups if group.allows(precision)]
    drawn = np.random.default_rng(0).permutation(len(allowed))[: (len(allowed) + 1) // 2]
    return grouping.uniform(grouping.top).replace({allowed[number]: precision for number in drawn})
