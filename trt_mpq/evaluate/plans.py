"""Scores of plans and of the files that are delivered for them, each measured once per run folder."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from trt_mpq.emit import Emitter, Network, Refinements
from trt_mpq.evaluate.cache import CachedScore, ScoreCache
from trt_mpq.evaluate.metrics import Scores
from trt_mpq.evaluate.scorer import Scorer, Scoring
from trt_mpq.evaluate.sequential import PairedTest
from trt_mpq.model import model_digest
from trt_mpq.types import Judgement, PrecisionPlan, Progress, Score


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
    """Scores plans of one network: writes the graph of a plan, runs it, and remembers the score.

    Args:
        emitter: Gives what writes a plan.
        marks: What tells the plan so written from the unrefined one in other ranges. A plan of equal marks scores the
            same, and is scored once.
        scorer: Scores graphs.
        cache: Scores already known.
        stop: When judging a plan may end before the last sample; None if never.
    """

    def __init__(
        self,
        emitter: Callable[[PrecisionPlan], Emitter],
        marks: Callable[[PrecisionPlan], Iterable[str]],
        scorer: Scorer,
        cache: ScoreCache,
        stop: EarlyStop | None = None,
    ) -> None:
        self._emitter, self._marks, self._scorer, self._cache, self._stop = emitter, marks, scorer, cache, stop
        self._files: dict[PrecisionPlan, str] = {}

    @classmethod
    def of(
        cls,
        network: Network,
        refinements: Refinements,
        scorer: Scorer,
        cache: ScoreCache,
        stop: EarlyStop | None = None,
    ) -> PlanEvaluator:
        """Scores plans of `network` that all share `refinements`."""
        emitter = network.emitter(refinements)
        return cls(
            lambda plan: emitter, lambda plan: (*network.marks(plan), *refinements.marks(plan)), scorer, cache, stop
        )

    @property
    def stops_early(self) -> bool:
        """Whether judging may take fewer samples than scoring."""
        return self._stop is not None

    def score(
        self, plan: PrecisionPlan, watch: Callable[[], AbstractContextManager[Progress | None]] = nullcontext
    ) -> Score:
        """The score of `plan` on the whole evaluation set.

        What `watch` gives is entered while it is measured, and may say who wants to know how far it is. Samples that
        `judge` has run in this process are not run again.
        """
        key = self._key(plan)

        def measure() -> Score:
            with watch() as progress:
                begun = self._cache.begun.pop(key, None) or self._scorer.begun()
                done = self._scorer.finished(begun, self._reference(plan), progress)
                self._keep_samples(key, done)
                return done.result()

        return self._cache.remember(key, measure).score

    def judge(self, plan: PrecisionPlan) -> Judgement:
        """Whether `plan` keeps what is required, told from as many samples as the test needs."""
        assert self._stop is not None
        known = self._known(plan, judged=True) or self._decided(plan, self._stop)
        keeps, score = known.keeps_target, known.score
        return Judgement(score, score.value >= self._stop.required if keeps is None else keeps, complete=keeps is None)

    def tried(
        self, plan: PrecisionPlan, required: float, watch: Callable[[], AbstractContextManager[Any]] = nullcontext
    ) -> Judgement:
        """Whether `plan` keeps what is `required`, its score on every sample unless it surely misses.

        What `watch` gives is entered while samples run.
        """
        with nullcontext() if self._known(plan, judged=self.stops_early) else watch():
            judged = self.judge(plan) if self.stops_early else None
            if judged is None or (judged.feasible and not judged.complete):
                score = self.score(plan)
                return Judgement(score, score.value >= required, complete=True)
            return judged

    def samples(self, plan: PrecisionPlan) -> Scores | None:
        """What the metric keeps of each sample for `plan`, in the order of the data; None if this process has not."""
        return self._cache.samples.get(self._key(plan))

    def delivered(self, plan: PrecisionPlan) -> Score:
        """What the typed file of `plan` scores; it need not be written: what lies on disk is known by content.

        Where ONNX Runtime does not run that, it is the reference, which is delivered beside it.
        """
        if not plan.portable:
            return self.score(plan)
        graph = self._emitter(plan).strong(plan)
        digest = self._files[plan] = _file_digest(graph)
        return self._of_file(digest, graph)

    def keeps(self, plan: PrecisionPlan, required: float) -> bool:
        """Whether `plan` scores what is `required` on every sample, and its typed file does too."""
        return self.score(plan).value >= required and self.delivered(plan).value >= required

    def on_disk(self, path: Path) -> Score:
        """What a file scores; raises RuntimeFailure if it does not run."""
        return self._of_file(model_digest(path), path)

    def seconds(self, plan: PrecisionPlan) -> float:
        """How long everything took that was ever run for `plan`, its judgement included and its file left out."""
        key = self._key(plan)
        return self._cache.seconds(key, *([f"{key} {self._stop.identity}"] if self._stop else []))

    def delivered_seconds(self, plan: PrecisionPlan) -> float:
        """How long the file of `plan` was scored."""
        if not plan.portable:
            return 0.0
        digest = self._files.get(plan) or _file_digest(self._emitter(plan).strong(plan))
        return self._cache.seconds(_file(digest))

    def _known(self, plan: PrecisionPlan, *, judged: bool) -> CachedScore | None:
        key = self._key(plan)
        # What a test said before comes first, so that a search that is resumed hears what it heard the first time.
        said = self._cache.get(f"{key} {self._stop.identity}") if self._stop and judged else None
        return said or self._cache.get(key)

    def _decided(self, plan: PrecisionPlan, stop: EarlyStop) -> CachedScore:
        """What the test says, remembered; with the score on every sample where it never does."""
        started, key, scoring = time.perf_counter(), self._key(plan), self._scorer.begun()
        judged = self._scorer.decided(scoring, self._reference(plan), stop.test)
        seconds = time.perf_counter() - started
        if judged:
            self._cache.begun[key] = scoring
            decided = CachedScore(judged.score, seconds, judged.feasible)
            self._cache.put(f"{key} {stop.identity}", decided)
            return decided
        self._keep_samples(key, scoring)
        measured = CachedScore(scoring.result(), seconds)
        self._cache.put(key, measured)
        return measured

    def _keep_samples(self, key: str, done: Scoring) -> None:
        """Keep in this process what the metric keeps of every sample."""
        if (numbers := done.in_data_order) is not None:
            self._cache.samples[key] = numbers

    def _of_file(self, digest: str, file: ir.Model | Path) -> Score:
        """The score of the file with this `digest`."""
        return self._cache.remember(_file(digest), lambda: self._scorer.score(file)).score

    def _reference(self, plan: PrecisionPlan) -> ir.Model:
        return self._emitter(plan).reference(plan)

    def _key(self, plan: PrecisionPlan) -> str:
        return " ".join([plan.digest, *self._marks(plan)])


def _file(digest: str) -> str:
    return f"file {digest}"


def _file_digest(graph: ir.Model) -> str:
    """The digest of the file that `graph` is written as, unless its weights lie beside it: then nothing is found."""
    return hashlib.sha256(ir.to_proto(graph).SerializeToString()).hexdigest()
