"""The refinements of one run: learned rounding, then bias correction, then both judged; and all that for one plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from itertools import count

from trt_mpq.dataset import Samples
from trt_mpq.emit import BiasCorrections, Emitter, Refinements, Roundings
from trt_mpq.keys import Keys
from trt_mpq.network import Network
from trt_mpq.numerics import BoolArray
from trt_mpq.observer import Progress
from trt_mpq.refine.adaround import RoundingInputs, learn_rounding
from trt_mpq.refine.bias_correction import CorrectionInputs, correct_biases, correct_for_plan
from trt_mpq.refine.for_plan import MOST_ATTEMPTS, Refined, refine_for_plan
from trt_mpq.refine.recovery import LEARNED_ROUNDING, bias_correction_record, rounding_record, worth_keeping
from trt_mpq.refine.storage import (
    CORRECTIONS,
    PLAN_CORRECTIONS,
    corrections_from_file,
    roundings_file,
    roundings_from_file,
    save_corrections,
    save_roundings,
)
from trt_mpq.report.data import RefinementRecord
from trt_mpq.runtime.base import Runtime
from trt_mpq.search import Evaluate, Problem
from trt_mpq.settings import Settings
from trt_mpq.stages import Stages
from trt_mpq.storage import from_json, to_stored_json, write_text
from trt_mpq.types import Evaluation, Precision, PrecisionPlan, Score

REFINED = "refined.json"

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
        score: UniformScore,
    ) -> None:
        self._settings, self._keys, self._stages = settings, keys, stages
        self._network, self._samples, self._runtime, self._score = network, samples, runtime, score
        self._measured: dict[str, BiasCorrections] = {}

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
        path, plan = self._stages.path(roundings_file(precision)), self._network.uniform(precision)
        given = RoundingInputs(
            self._network.graph, self._network.grouping, self._network.emitter(), self._samples, self._runtime,
            self._settings.adaround_steps, self._settings.seed,
        )  # fmt: skip
        self._stages.files(
            f"learn-rounding.{precision}", self._keys.rounding(precision), (path.name,),
            lambda progress: save_roundings(path, learn_rounding(given, plan, progress)),
            f"Learning how to round {precision} weights",
        )  # fmt: skip
        return roundings_from_file(path)

    # Bias correction, of the rounded network.

    def _correction_record(self, precision: Precision) -> RefinementRecord:
        before = self._score(precision, "as calibrated", self._network, self._rounded)
        corrected = replace(self._rounded, corrections=self._corrections)
        after = self._score(precision, "with bias correction", self._network, corrected)
        return bias_correction_record(precision, before, after, self._corrections)

    @cached_property
    def _corrections(self) -> BiasCorrections:
        """All corrections that were measured, worth keeping or not."""
        path = self._stages.path(CORRECTIONS)
        marks = [mark for p in self._settings.formats for mark in self._rounded.marks(self._network.uniform(p))]
        self._stages.files(
            "correct-biases", self._keys.corrections(marks), (path.name,),
            lambda progress: save_corrections(path, correct_biases(self._correcting, progress)), "Correcting biases",
        )  # fmt: skip
        return corrections_from_file(path)

    @property
    def _correcting(self) -> CorrectionInputs:
        return CorrectionInputs(
            self._network.graph, self._network.grouping, self._network.emitter(self._rounded), self._samples,
            self._runtime, self._settings.formats,
        )  # fmt: skip

    # Refinement for exactly one plan.

    def for_plan(
        self, key: str, problem: Problem, found: Evaluation, evaluate: Evaluate, delivered: Evaluate
    ) -> Refined:
        """Refine for what was found; `evaluate` scores plans that are refined for themselves, `delivered` files."""

        def work(progress: Progress) -> None:
            done = count(1)

            def scored(plan: PrecisionPlan) -> Score:
                score = evaluate(plan)
                progress(next(done), MOST_ATTEMPTS + 1)
                return score

            refined = refine_for_plan(problem, found, scored, delivered)
            own = self._own_corrections(refined.chosen.plan) if refined.own else {}
            save_corrections(self._stages.path(PLAN_CORRECTIONS), own)
            write_text(path, to_stored_json(refined, Refined))

        _ = self.kept  # a stage of its own
        path = self._stages.path(REFINED)
        self._stages.files("refine-plan", key, (REFINED, PLAN_CORRECTIONS), work, "Refining for the chosen plan")
        return from_json(path.read_bytes(), Refined)

    def with_own(self, refined: Refined) -> Refinements:
        """What is delivered: the kept refinements, and the corrections that `for_plan` kept."""
        if not refined.own:
            return self.kept
        own = corrections_from_file(self._stages.path(PLAN_CORRECTIONS))
        return replace(self.kept, own={refined.chosen.plan.digest: own})

    def emitter_for_itself(self, plan: PrecisionPlan) -> Emitter:
        """Writes a plan with corrections of its own, measured now."""
        own = {plan.digest: self._own_corrections(plan)}
        return self._network.emitter(replace(self.kept, own=own))

    def marks_for_itself(self, plan: PrecisionPlan) -> tuple[str, ...]:
        """What `emitter_for_itself` adds to `plan`, in words for a key; nothing is measured for it."""
        return replace(self.kept, own={plan.digest: {}}).marks(plan)

    def _own_corrections(self, plan: PrecisionPlan) -> BiasCorrections:
        if plan.digest not in self._measured:
            self._measured[plan.digest] = correct_for_plan(self._correcting, plan)
        return self._measured[plan.digest]
