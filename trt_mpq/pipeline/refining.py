"""The refinements of one run: learned rounding, then bias correction, then both judged; and all that for one plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from itertools import count
from pathlib import Path

from trt_mpq.artifacts.stages import Stages
from trt_mpq.artifacts.storage import from_json, to_stored_json, write_text
from trt_mpq.dataset import Samples
from trt_mpq.emit import BiasCorrections, Own, Refinements, Roundings
from trt_mpq.emit.network import Network
from trt_mpq.numerics import BoolArray, FloatArray
from trt_mpq.pipeline.correcting import Correcting
from trt_mpq.pipeline.keys import Keys
from trt_mpq.refine.adaround import RoundingInputs, learn_rounding
from trt_mpq.refine.bias_correction import correct_biases
from trt_mpq.refine.for_plan import MOST_ATTEMPTS, Refined, refine_for_plan
from trt_mpq.refine.itself import ForItself
from trt_mpq.refine.recovery import LEARNED_ROUNDING, bias_correction_record, rounding_record, worth_keeping
from trt_mpq.refine.storage import (
    CORRECTIONS,
    PLAN_CORRECTIONS,
    PLAN_ROUNDINGS,
    corrections_from_file,
    roundings_file,
    roundings_from_file,
    roundings_over,
    save_corrections,
    save_roundings,
)
from trt_mpq.runtime.base import Runtime
from trt_mpq.search import Evaluate, Problem
from trt_mpq.settings import Settings
from trt_mpq.types import Evaluation, Precision, PrecisionPlan, RefinementRecord, Score
from trt_mpq.types.observer import Progress

REFINED = "refined.json"

Scored = Callable[[ForItself], tuple[Evaluate, Evaluate]]
"""Scores plans that are refined for themselves in one way, and the files of such plans."""
UniformScore = Callable[[Precision, str, Network, Refinements], float]
"""Score of the uniform plan of a precision; the text says in which state, for whoever watches."""


class Refining:
    """Refines a calibrated network.

    Args:
        settings: What the user asked for.
        keys: Keys of the stages.
        stages: Keep what is computed here.
        network: The network.
        samples: Calibration data.
        runtime: Where networks run.
        correcting: Corrects biases.
        score: Scores uniform plans.
    """

    def __init__(
        self,
        settings: Settings,
        keys: Keys,
        stages: Stages,
        network: Network,
        samples: Samples,
        runtime: Runtime,
        correcting: Correcting,
        score: UniformScore,
    ) -> None:
        self._settings, self._keys, self._stages = settings, keys, stages
        self._network, self._samples, self._runtime = network, samples, runtime
        self._correcting, self._score = correcting, score

    def records(self, precision: Precision) -> Iterator[RefinementRecord]:
        """What each refinement did to the uniform plan of `precision`, in the order they are applied."""
        if self._settings.adaround:
            yield self._rounding_record(precision)
        if self._settings.bias_correction:
            yield self._correction_record(precision)

    @cached_property
    def kept(self) -> Refinements:
        """The refinements of the precisions whose uniform plan they do not hurt."""
        if not self._settings.bias_correction:
            return self._rounded
        records = [self._correction_record(precision) for precision in self._settings.formats]
        return replace(self._rounded, corrections=worth_keeping(self._corrections, records))

    # Learned rounding.

    @cached_property
    def _rounded(self) -> Refinements:
        """The learned roundings that are worth keeping, and nothing else."""
        if not self._settings.adaround:
            return Refinements()
        records = [self._rounding_record(precision) for precision in self._settings.formats]
        return Refinements(roundings=worth_keeping(self._roundings, records, LEARNED_ROUNDING))

    def _rounding_record(self, precision: Precision) -> RefinementRecord:
        before = self._score(precision, "as calibrated", self._network, Refinements())
        learned = Refinements(roundings=self._roundings)
        after = self._score(precision, "with learned rounding", self._network, learned)
        return rounding_record(precision, before, after, self._roundings)

    @cached_property
    def _roundings(self) -> Roundings:
        """All roundings that were learned, worth keeping or not."""
        found: dict[tuple[str, Precision], BoolArray] = {}
        for precision in self._settings.formats:
            found.update(self._roundings_of(precision))
        return found

    def _roundings_of(self, precision: Precision) -> Roundings:
        path = self._stages.path(roundings_file(precision))
        self._learn(path, self._keys.rounding(self._network, precision), self._network.uniform(precision), precision)
        return roundings_from_file(path)

    def _learn(self, path: Path, key: str, plan: PrecisionPlan, whose: str) -> None:
        given = RoundingInputs(
            self._network.graph, self._network.grouping, self._network.emitter(), self._samples, self._runtime,
            self._settings.adaround_steps, self._settings.seed,
        )  # fmt: skip
        self._stages.files(
            path.stem.replace("roundings-", "learn-rounding."), key, (path.name,),
            lambda progress: save_roundings(path, learn_rounding(given, plan, progress)),
            f"Learning how to round {whose} weights",
        )  # fmt: skip

    # Bias correction, of the rounded network.

    def _correction_record(self, precision: Precision) -> RefinementRecord:
        before = self._score(precision, "as calibrated", self._network, self._rounded)
        corrected = replace(self._rounded, corrections=self._corrections)
        after = self._score(precision, "with bias correction", self._network, corrected)
        return bias_correction_record(precision, before, after, self._corrections)

    @cached_property
    def _corrections(self) -> BiasCorrections:
        """All corrections that were measured, worth keeping or not."""
        path, formats, network = self._stages.path(CORRECTIONS), self._settings.formats, self._network
        marks = {p: self._rounded.marks(network.uniform(p)) for p in formats}
        rounded = tuple(p for p in formats if marks[p])
        known: dict[tuple[str, Precision], FloatArray] = {}
        for precision in formats:
            if precision not in rounded:
                known.update(self._correcting.unrounded(network, precision))
        given = self._correcting.inputs(network, self._rounded, rounded)
        self._stages.files(
            "correct-biases", self._keys.corrections(network, [mark for own in marks.values() for mark in own]),
            (path.name,), lambda progress: save_corrections(path, {**known, **correct_biases(given, progress)}),
            "Correcting biases" if rounded else None,
        )  # fmt: skip
        return corrections_from_file(path)

    # Refinement for exactly one plan.

    def for_plan(self, key: str, problem: Problem, found: Evaluation, scored: Scored) -> Refined:
        """Refine for exactly what was found; where rounding is learned, that too if it helps."""
        ways = [(refiner, *scored(refiner)) for refiner in self._refiners(problem, found.plan)]
        path = self._stages.path(REFINED)

        def work(progress: Progress) -> None:
            done = count(1)
            # A uniform plan, which has one way only, was scored with its own refinements already.
            refiner, evaluate, delivered = max(ways, key=lambda way: way[1](found.plan).value) if ways[1:] else ways[0]

            def told(plan: PrecisionPlan) -> Score:
                score = evaluate(plan)
                progress(next(done), MOST_ATTEMPTS + 1)
                return score

            refined = refine_for_plan(problem, found, told, delivered)
            own = refiner.own(refined.chosen.plan) if refined.own else Own({})
            save_corrections(self._stages.path(PLAN_CORRECTIONS), own.corrections)
            write_text(path, to_stored_json(replace(refined, rounded=own.roundings is not None), Refined))

        self._stages.files("refine-plan", key, (REFINED, PLAN_CORRECTIONS), work, "Refining for the chosen plan")
        return from_json(path.read_bytes(), Refined)

    def with_own(self, refined: Refined) -> Refinements:
        """What is delivered: the kept refinements, and those of its own that `for_plan` kept."""
        if not refined.own:
            return self.kept
        corrections = corrections_from_file(self._stages.path(PLAN_CORRECTIONS))
        own = Own(corrections, self._roundings_for_plan if refined.rounded else None)
        return replace(self.kept, own={refined.chosen.plan.digest: own})

    def _refiners(self, problem: Problem, plan: PrecisionPlan) -> tuple[ForItself, ...]:
        """Ways to refine plans for themselves: with the roundings that all share, and with those learned for `plan`."""
        correct = partial(self._correcting.for_plan, self._network)
        shared = ForItself(self._network, correct, self.kept, None)
        if not self._settings.adaround or problem.is_uniform(plan):
            return (shared,)
        self._learn(
            self._stages.path(PLAN_ROUNDINGS), self._keys.rounding(self._network, plan.digest), plan, "the plan's"
        )
        return shared, ForItself(self._network, correct, self.kept, self._roundings_for_plan)

    @property
    def _roundings_for_plan(self) -> Roundings:
        """What was learned under the plan that was found, over what all plans share."""
        return roundings_over(self.kept.roundings, self._stages.path(PLAN_ROUNDINGS))
