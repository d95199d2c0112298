"""Task scores of graphs and plans on the evaluation set, each plan scored at most once per run folder."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import IO

import onnx_ir as ir

from trt_mpq.chunks import Chunk, chunks_by_length
from trt_mpq.dataset import Samples
from trt_mpq.errors import RunFolderError
from trt_mpq.metrics import TaskMetric
from trt_mpq.observer import Progress
from trt_mpq.runtime.base import Arrays, Runtime, Session
from trt_mpq.storage import cannot_write
from trt_mpq.types import PrecisionPlan, Score

_KEPT_BYTES = 1 << 30
"""FP32 outputs up to this size stay in memory between the evaluations of a search; larger ones are recomputed."""

Stage = AbstractContextManager["Progress | None"]
"""Entered while a score is measured; may give something that wants to know how far it is."""


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
        """The score remembered under `plan`, if it was ever measured in this context."""
        return self._scores.get(plan)

    def remember(self, plan: str, measure: Callable[[], Score]) -> CachedScore:
        """The score of `plan`, measured and timed now unless it is known; raises RunFolderError."""
        if plan not in self._scores:
            started = time.perf_counter()
            score = measure()
            self.put(plan, CachedScore(score, time.perf_counter() - started))
        return self._scores[plan]

    def put(self, plan: str, cached: CachedScore) -> None:
        """Remember a score, on disk too; raises RunFolderError if that fails."""
        score = cached.score
        line = [self._context, plan, score.value, score.stderr, score.samples, round(cached.seconds, 4)]
        try:
            with self._path.open("a+b") as file:
                file.write(b"" if _ends_a_line(file) else b"\n")
                file.write(json.dumps(line).encode() + b"\n")
        except OSError as error:
            raise RunFolderError(cannot_write(self._path, error)) from error
        self._scores[plan] = cached

    def _read(self) -> Iterator[tuple[str, CachedScore]]:
        if not self._path.exists():
            return
        for line in self._path.read_bytes().splitlines():
            try:
                context, plan, value, stderr, samples, seconds = json.loads(line)
            except (ValueError, TypeError):  # the line a kill cut short
                continue
            if context == self._context:
                yield plan, CachedScore(Score(value, stderr, samples), seconds)


def _ends_a_line(file: IO[bytes]) -> bool:
    if file.seek(0, os.SEEK_END) == 0:
        return True
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _unobserved() -> Stage:
    return nullcontext(None)


class Scorer:
    """Scores graphs on one evaluation set with one metric.

    Args:
        fp32: The original graph, whose outputs fidelity metrics compare with.
        runtime: Where graphs run.
        samples: Evaluation data.
        metric: Task metric.
        batch: Rows of the model's batch per run, at most.
    """

    def __init__(self, fp32: ir.Model, runtime: Runtime, samples: Samples, metric: TaskMetric, batch: int) -> None:
        self._runtime, self._metric = runtime, metric
        self._uncut = _Pass(fp32, runtime, samples.uncut(), batch)
        in_place = samples.padding is None or metric.in_order
        self._cut = self._uncut if in_place else _Pass(fp32, runtime, samples, batch)

    def score(self, graph: ir.Model | Path, progress: Progress | None = None) -> Score:
        """Run every sample through `graph`, cut to its length where the data tells it and the metric allows it.

        Raises:
            RuntimeFailure: The graph does not run.
            MetricError: The outputs cannot be scored.
        """
        return self._score(self._runtime.load(graph), self._cut, progress)

    def score_session(self, session: Session, progress: Progress | None = None) -> Score:
        """Run every sample, uncut, through a graph or engine that is loaded; raises RuntimeFailure or MetricError.

        An engine is built for the length that the data has: shorter samples may be outside its profile.
        """
        return self._score(session, self._uncut, progress)

    def _score(self, session: Session, data: _Pass, progress: Progress | None) -> Score:
        references = data.references() if self._metric.needs_reference else repeat(None)
        accumulator = self._metric.accumulator()
        # References first: their generator is then run to its end, where it keeps them.
        for reference, chunk in zip(references, data.chunks(), strict=False):
            accumulator.add(chunk.run(session), chunk.batch.labels, reference)
            if progress:
                progress(chunk.end, data.samples.count)
        return accumulator.result()


class _Pass:
    """The evaluation data in one order and length, and the FP32 outputs for it."""

    def __init__(self, fp32: ir.Model, runtime: Runtime, samples: Samples, batch: int) -> None:
        self.samples = samples
        self._fp32, self._runtime, self._batch = fp32, runtime, batch
        self._kept: list[Arrays] = []

    def chunks(self) -> Iterator[Chunk]:
        """The data; cut where it tells lengths."""
        return chunks_by_length(self.samples, self._batch)

    def references(self) -> Iterator[Arrays]:
        """FP32 outputs of every chunk, kept from the first time on unless they are large."""
        if self._kept:
            yield from self._kept
            return
        session = self._runtime.load(self._fp32)
        kept: list[Arrays] = []
        size = 0
        for chunk in self.chunks():
            outputs = chunk.run(session)
            size += sum(value.nbytes for value in outputs.values())
            if size <= _KEPT_BYTES:
                kept.append(outputs)
            yield outputs
        if size <= _KEPT_BYTES:
            self._kept = kept


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

    def __call__(self, plan: PrecisionPlan) -> Score:
        """The score of `plan` on the whole evaluation set."""
        return self.timed(plan).score

    def timed(self, plan: PrecisionPlan, stage: Callable[[], Stage] = _unobserved) -> CachedScore:
        """The score of `plan` and the seconds its evaluation took when it was done; `stage` is entered to do it."""

        def measure() -> Score:
            with stage() as progress:
                return self._scorer.score(self._reference(plan), progress)

        return self._cache.remember(self._key(plan), measure)

    def _key(self, plan: PrecisionPlan) -> str:
        return " ".join([plan.digest, *self._marks(plan)])
