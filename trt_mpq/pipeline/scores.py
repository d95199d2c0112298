"""The scores of one run: of FP32, of plans, and whether a plan keeps the target."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import onnx_ir as ir

from trt_mpq.artifacts.stages import Stages
from trt_mpq.artifacts.storage import atomic_path, key_of
from trt_mpq.emit import Refinements
from trt_mpq.emit.network import Network
from trt_mpq.evaluate.metrics import Scores
from trt_mpq.evaluate.score_cache import ScoreCache
from trt_mpq.evaluate.scorer import EarlyStop, PlanEvaluator, Scorer
from trt_mpq.evaluate.stopping import paired_test, schedule_for
from trt_mpq.evaluate.verification import TypedFiles
from trt_mpq.pipeline.inputs import Choices
from trt_mpq.pipeline.keys import Keys
from trt_mpq.pipeline.subject import Subject
from trt_mpq.refine.itself import ForItself
from trt_mpq.search.base import Judge
from trt_mpq.settings import Settings
from trt_mpq.types import Precision, PrecisionPlan, Score
from trt_mpq.types.observer import Observer, Progress

SCORES, FP32_SAMPLES = "evaluations.jsonl", "fp32-samples.npy"


class RunScores:
    """Scores on the evaluation set, each measured once per run folder.

    Args:
        settings: What the user asked for.
        choices: What the settings name.
        subject: The model and its data.
        keys: Keys of the stages.
        stages: Does the stages.
        observer: Told of scores that are measured.
    """

    def __init__(
        self, settings: Settings, choices: Choices, subject: Subject, keys: Keys, stages: Stages, observer: Observer
    ) -> None:
        self._settings, self._choices, self._subject = settings, choices, subject
        self._keys, self._stages, self._observer = keys, stages, observer

    @cached_property
    def scorer(self) -> Scorer:
        """Scores graphs on the evaluation data; fidelity metrics compare with the original model."""
        data, settings = self._subject.data, self._settings
        schedule = schedule_for(data.metric, data.evaluation, data.batch, settings.confidence, settings.seed)
        return Scorer(self._subject.original, self._choices.runtime, data.evaluation, data.metric, data.batch, schedule)

    @cached_property
    def fp32(self) -> Score:
        """Score of the original model; what the metric keeps of each sample is written beside it, for paired tests."""

        def measure(progress: Progress) -> Score:
            scoring = self.scorer.finished(self.scorer.begun(), self._subject.original, progress)
            if (numbers := scoring.in_data_order) is not None:
                with atomic_path(self._fp32_samples) as path, path.open("wb") as file:
                    np.save(file, numbers, allow_pickle=False)
            return scoring.result()

        return self._stages.value(
            "score-fp32", self._keys.fp32_score, "fp32.json", Score, measure, others=(FP32_SAMPLES,),
            title="Scoring FP32",
        )  # fmt: skip

    @property
    def required(self) -> float:
        """The least score a plan must have."""
        return self._settings.target_accuracy * self.fp32.value

    def evaluator(self, network: Network, refinements: Refinements) -> PlanEvaluator:
        """Scores plans of `network`, refined."""
        return self._evaluating(network, network.emitter(refinements).reference, refinements.marks)

    def delivered(self, network: Network, refinements: Refinements) -> TypedFiles:
        """Scores the typed files of plans of `network`, refined."""
        return TypedFiles(network.emitter(refinements).strong, self.scorer, self._cache(network))

    def for_itself(self, network: Network, refiner: ForItself) -> tuple[PlanEvaluator, TypedFiles]:
        """Score plans of `network` that are refined for themselves, and their typed files."""
        return (
            self._evaluating(network, lambda plan: refiner.emitter(plan).reference(plan), refiner.marks),
            TypedFiles(lambda plan: refiner.emitter(plan).strong(plan), self.scorer, self._cache(network)),
        )

    def _evaluating(
        self,
        network: Network,
        reference: Callable[[PrecisionPlan], ir.Model],
        marks: Callable[[PrecisionPlan], tuple[str, ...]],
    ) -> PlanEvaluator:
        """Scores plans of `network` by the graphs that `reference` gives; `marks` tell these from others."""
        return PlanEvaluator(
            reference, self.scorer, self._cache(network), lambda plan: (*network.marks(plan), *marks(plan))
        )

    def _cache(self, network: Network) -> ScoreCache:
        return ScoreCache(self._stages.path(SCORES), self._keys.scores(network.model))

    def uniform(self, precision: Precision, state: str, network: Network, refinements: Refinements) -> float:
        """Score of the uniform plan of `precision`; `state` tells the observer what of."""
        evaluator, plan = self.evaluator(network, refinements), network.uniform(precision)
        return evaluator.timed(plan, lambda: self._observer.stage(f"Scoring uniform {precision} {state}")).score.value

    def judge(self, evaluator: PlanEvaluator) -> Judge | None:
        """Judges plans on as few samples as the confidence allows; None where that is all of them."""
        return None if self.stop is None else partial(evaluator.judge, stop=self.stop)

    def seconds(self, evaluator: PlanEvaluator, plan: PrecisionPlan) -> float:
        """How long `plan` was evaluated, judgement and score together."""
        return evaluator.seconds(plan, self.stop)

    @cached_property
    def stop(self) -> EarlyStop | None:
        """When the evaluation of a plan that is judged may end; None if it runs every sample."""
        required, schedule, confidence = self.required, self.scorer.schedule, self._settings.confidence
        test = paired_test(self.scorer.metric, schedule, self._baseline, required, confidence)
        identity = key_of(self._keys.fp32_score, required, confidence, self._settings.seed, schedule.ends)
        return None if test is None else EarlyStop(test, required, identity)

    @property
    def _baseline(self) -> Scores | None:
        return np.load(self._fp32_samples, allow_pickle=False) if self._fp32_samples.exists() else None

    @property
    def _fp32_samples(self) -> Path:
        return self._stages.path(FP32_SAMPLES)
