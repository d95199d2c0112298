"""Task scores of graphs and plans on the evaluation set, each plan scored at most once per run folder."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from trt_mpq.dataset import Batch, Samples, pad_batch
from trt_mpq.errors import RunFolderError
from trt_mpq.metrics import TaskMetric
from trt_mpq.runtime.base import Arrays, Runtime, Session
from trt_mpq.types import PrecisionPlan, Score


@dataclass(frozen=True)
class CachedScore:
    """A score and what it cost."""

    score: Score
    seconds: float


class ScoreCache:
    """An append-only file of scores; a line cut short by a kill is ignored.

    Args:
        path: The file; created on the first score.
        context: Digest of everything but the plan that a score depends on.
    """

    def __init__(self, path: Path, context: str) -> None:
        self._path, self._context = path, context
        self._scores = dict(self._read())

    def get(self, plan: str) -> CachedScore | None:
        """The score of the plan with this digest, if it was ever measured in this context."""
        return self._scores.get(plan)

    def put(self, plan: str, cached: CachedScore) -> None:
        """Remember a score, on disk too."""
        self._scores[plan] = cached
        score = cached.score
        line = [self._context, plan, score.value, score.stderr, score.samples, round(cached.seconds, 4)]
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise RunFolderError(
                f"cannot write {self._path} ({error.strerror}): free space or choose another -o"
            ) from error

    def _read(self) -> list[tuple[str, CachedScore]]:
        if not self._path.exists():
            return []
        found = []
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                context, plan, value, stderr, samples, seconds = json.loads(line)
            except ValueError:  # the line a kill cut short
                continue
            if context == self._context:
                found.append((plan, CachedScore(Score(value, stderr, samples), seconds)))
        return found


class Scorer:
    """Scores graphs on one evaluation set with one metric.

    Args:
        fp32: The original graph, whose outputs fidelity metrics compare with.
        runtime: Where graphs run.
        samples: Evaluation data.
        metric: Task metric.
        batch: Samples per run; the last batch is padded.
    """

    def __init__(self, fp32: ir.Model, runtime: Runtime, samples: Samples, metric: TaskMetric, batch: int) -> None:
        self._fp32, self._runtime = fp32, runtime
        self._samples, self._metric, self._batch = samples, metric, batch
        self._reference: list[Arrays] = []

    def score(self, graph: ir.Model | Path) -> Score:
        """Run every sample through `graph`; raises RuntimeFailure or MetricError."""
        session = self._runtime.load(graph)
        references = self._references() if self._metric.needs_reference else None
        accumulator = self._metric.accumulator()
        for i, batch in enumerate(self._samples.batches(self._batch)):
            accumulator.add(self._run(session, batch), batch.labels, references[i] if references else None)
        return accumulator.result()

    def _references(self) -> list[Arrays]:
        if not self._reference:
            session = self._runtime.load(self._fp32)
            self._reference = [self._run(session, batch) for batch in self._samples.batches(self._batch)]
        return self._reference

    def _run(self, session: Session, batch: Batch) -> Arrays:
        outputs = session.run(pad_batch(batch, self._batch).feeds)
        return {name: value[: batch.size] for name, value in outputs.items()}


class PlanEvaluator:
    """Scores plans: writes the reference graph of a plan, runs it, and remembers the score.

    Args:
        reference: Gives the reference flavour of a plan.
        scorer: Scores graphs.
        cache: Scores already known.
    """

    def __init__(self, reference: Callable[[PrecisionPlan], ir.Model], scorer: Scorer, cache: ScoreCache) -> None:
        self._reference, self._scorer, self._cache = reference, scorer, cache

    def __call__(self, plan: PrecisionPlan) -> Score:
        """The score of `plan` on the whole evaluation set."""
        return self.timed(plan).score

    def timed(self, plan: PrecisionPlan) -> CachedScore:
        """The score of `plan` and the seconds its evaluation took when it was done."""
        return self.remembered(plan.digest, lambda: self._reference(plan))

    def remembered(self, digest: str, graph: Callable[[], ir.Model]) -> CachedScore:
        """The score of any graph, remembered under `digest`."""
        cached = self._cache.get(digest)
        if cached is None:
            started = time.perf_counter()
            score = self._scorer.score(graph())
            cached = CachedScore(score, time.perf_counter() - started)
            self._cache.put(digest, cached)
        return cached
