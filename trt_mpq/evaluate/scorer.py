"""Task scores of graphs and plans on the evaluation set, each plan scored at most once per run folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from trt_mpq.dataset import Samples
from trt_mpq.evaluate.evaluation_pass import EvaluationPass
from trt_mpq.evaluate.metrics import Scores, TaskMetric
from trt_mpq.evaluate.score_cache import CachedScore, ScoreCache
from trt_mpq.evaluate.sequential import PairedTest, Schedule, data_order
from trt_mpq.runtime.base import Runtime, Session
from trt_mpq.types import Judgement, PrecisionPlan, Score
from trt_mpq.types.observer import Progress

Stage = AbstractContextManager["Progress | None"]
"""Entered while a score is measured; may give something that wants to know how far it is."""


def _unobserved() -> Stage:
    return nullcontext(None)


class Scoring:
    """One graph on its way through the evaluation data.

    Args:
        data: The data.
        metric: Task metric.
    """

    def __init__(self, data: EvaluationPass, metric: TaskMetric) -> None:
        self._data, self._accumulator = data, metric.accumulator()
        self._positions: list[NDArray[np.intp]] = []
        self._samples = 0

    def advance(self, session: Session, end: int, progress: Progress | None = None) -> None:
        """Run the samples that are still missing among the first `end` through `session`.

        Raises:
            RuntimeFailure: The graph does not run.
            MetricError: The outputs cannot be scored.
        """
        for step in self._data.steps(self._samples, end):
            self._accumulator.add(step.chunk.run(session), step.chunk.batch.labels, step.reference)
            self._positions.append(step.positions)
            if progress:
                progress(step.end, self._data.samples.count)
        self._samples = end

    @property
    def drawn(self) -> Scores | None:
        """What the metric keeps of the samples run so far, in the order of drawing; None if it keeps nothing."""
        return self._sorted_by(np.concatenate(self._positions))

    @property
    def in_data_order(self) -> Scores | None:
        """The same in the order of the data."""
        return self._sorted_by(self._numbers_in_data())

    def result(self) -> Score:
        """The score of the samples run so far; sums are in the order of the data, whatever that of drawing."""
        return self._accumulator.result(np.argsort(self._numbers_in_data()))

    def _numbers_in_data(self) -> NDArray[np.intp]:
        return self._data.schedule.in_data(np.concatenate(self._positions))

    def _sorted_by(self, keys: NDArray[np.intp]) -> Scores | None:
        kept = self._accumulator.numbers
        return None if kept is None else kept[np.argsort(keys)]


class Scorer:
    """Scores graphs on one evaluation set with one metric.

    Args:
        fp32: The original graph, whose outputs fidelity metrics compare with.
        runtime: Where graphs run.
        samples: Evaluation data.
        metric: Task metric.
        batch: Rows of the model's batch per run, at most.
        schedule: Order and portions in which samples run; None for all at once, in the order of the data.
    """

    def __init__(
        self,
        fp32: ir.Model,
        runtime: Runtime,
        samples: Samples,
        metric: TaskMetric,
        batch: int,
        schedule: Schedule | None = None,
    ) -> None:
        self.metric, self.schedule = metric, schedule or data_order(samples.count)
        self._runtime = runtime
        self._count = samples.count

        def passing(data: Samples) -> EvaluationPass:
            return EvaluationPass(fp32, runtime, data, batch, self.schedule, metric.needs_reference)

        self._uncut = passing(samples.uncut())
        self._cut = self._uncut if samples.padding is None or metric.in_order else passing(samples)

    def score(self, graph: ir.Model | Path, progress: Progress | None = None) -> Score:
        """Run every sample through `graph`, cut to its length where the data tells it and the metric allows it.

        Raises:
            RuntimeFailure: The graph does not run.
            MetricError: The outputs cannot be scored.
        """
        return self.finished(self.begun(), graph, progress).result()

    def score_session(self, session: Session, progress: Progress | None = None) -> Score:
        """Run every sample, uncut, through a graph or engine that is loaded; raises RuntimeFailure or MetricError.

        An engine is built for the length that the data has: shorter samples may be outside its profile.
        """
        scoring = Scoring(self._uncut, self.metric)
        scoring.advance(session, self._count, progress)
        return scoring.result()

    def begun(self) -> Scoring:
        """A graph about to run through the data, for `finished` or `decided`."""
        return Scoring(self._cut, self.metric)

    def finished(self, scoring: Scoring, graph: ir.Model | Path, progress: Progress | None = None) -> Scoring:
        """`scoring` of `graph` with every sample that was still missing; raises as `score` does."""
        scoring.advance(self._runtime.load(graph), self._count, progress)
        return scoring

    def decided(
        self, scoring: Scoring, graph: ir.Model, test: PairedTest, progress: Progress | None = None
    ) -> Judgement | None:
        """Run `graph` portion by portion until `test` decides; None if all samples had to run; raises as `score`."""
        session = self._runtime.load(graph)
        for end in self.schedule.looks:
            scoring.advance(session, end, progress)
            numbers = scoring.drawn
            verdict = None if numbers is None else test.decide(numbers)
            if numbers is not None and verdict is not None:
                return Judgement(test.estimate(numbers), verdict, complete=False)
        scoring.advance(session, self._count, progress)
        return None


@dataclass(frozen=True)
class EarlyStop:
    """When an evaluation may end before its last sample.

    Attributes:
        test: Decides whether a plan keeps `required`.
        required: Lowest acceptable score, absolute.
        identity: Digest of everything that the test decides by, beside what the plan scores on each sample.
    """

    test: PairedTest
    required: float
    identity: str


class PlanEvaluator:
    """Scores plans: writes the reference graph of a plan, runs it, and remembers the score.

    Args:
        reference: Gives the reference flavour of a plan.
        scorer: Scores graphs.
        cache: Scores already known.
        marks: What tells the plan that `reference` writes from the unrefined one. A plan without marks scores the
            same with and without refinement, and is scored once.
    """

    def __init__(
        self,
        reference: Callable[[PrecisionPlan], ir.Model],
        scorer: Scorer,
        cache: ScoreCache,
        marks: Callable[[PrecisionPlan], tuple[str, ...]] = lambda plan: (),
    ) -> None:
        self._reference, self._scorer, self._cache, self._marks = reference, scorer, cache, marks
        self._begun: dict[str, Scoring] = {}

    def __call__(self, plan: PrecisionPlan) -> Score:
        """The score of `plan` on the whole evaluation set."""
        return self.timed(plan).score

    def timed(self, plan: PrecisionPlan, stage: Callable[[], Stage] = _unobserved) -> CachedScore:
        """The score of `plan` on the whole evaluation set and what it cost; `stage` is entered to measure it.

        Samples that `judge` has run in this process are not run again.
        """
        key = self._key(plan)

        def measure() -> Score:
            with stage() as progress:
                begun = self._begun.pop(key, None) or self._scorer.begun()
                return self._scorer.finished(begun, self._reference(plan), progress).result()

        return self._cache.remember(key, measure)

    def judge(self, plan: PrecisionPlan, stop: EarlyStop) -> Judgement:
        """Whether `plan` keeps what `stop` requires, told from as many samples as its test needs."""
        known = self.known(plan, stop) or self._decided(plan, stop)
        keeps, score = known.keeps_target, known.score
        return Judgement(score, score.value >= stop.required if keeps is None else keeps, complete=keeps is None)

    def known(self, plan: PrecisionPlan, stop: EarlyStop | None = None) -> CachedScore | None:
        """What is remembered of `plan` on every sample, or with `stop` of its judgement; None if nothing is."""
        key = self._key(plan)
        # What a test said before comes first, so that a search that is resumed hears what it heard the first time.
        said = self._cache.get(f"{key} {stop.identity}") if stop else None
        return said or self._cache.get(key)

    def fresh(self, plan: PrecisionPlan, stop: EarlyStop | None = None) -> CachedScore:
        """`plan` run on every sample, or until `stop` decides, whatever is known of it; nothing is remembered."""
        return self._measured(plan, self._scorer.begun(), stop)

    def remember(self, plan: PrecisionPlan, measured: CachedScore, stop: EarlyStop | None = None) -> None:
        """Remember what `fresh` returned, here or in another process; raises RunFolderError."""
        key, early = self._key(plan), measured.keeps_target is not None
        self._cache.put(f"{key} {stop.identity}" if stop and early else key, measured)

    def seconds(self, plan: PrecisionPlan, stop: EarlyStop | None = None) -> float:
        """How long everything took that was ever run for `plan`, or for its judgement by `stop`."""
        key = self._key(plan)
        return self._cache.seconds(key, *([f"{key} {stop.identity}"] if stop else []))

    def _decided(self, plan: PrecisionPlan, stop: EarlyStop) -> CachedScore:
        scoring = self._scorer.begun()
        measured = self._measured(plan, scoring, stop)
        self.remember(plan, measured, stop)
        if measured.keeps_target is not None:
            self._begun[self._key(plan)] = scoring
        return measured

    def _measured(self, plan: PrecisionPlan, scoring: Scoring, stop: EarlyStop | None) -> CachedScore:
        started, graph = time.perf_counter(), self._reference(plan)
        if stop is None:
            self._scorer.finished(scoring, graph)
        elif judged := self._scorer.decided(scoring, graph, stop.test):
            return CachedScore(judged.score, time.perf_counter() - started, judged.feasible)
        return CachedScore(scoring.result(), time.perf_counter() - started)

    def _key(self, plan: PrecisionPlan) -> str:
        return " ".join([plan.digest, *self._marks(plan)])
