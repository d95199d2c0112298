"""Scores that are remembered on disk, so that a plan is run at most once per run folder."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from trt_mpq.artifacts.files import cannot_write, not_through_a_link
from trt_mpq.errors import RunFolderError
from trt_mpq.evaluate.metrics import Scores
from trt_mpq.evaluate.scorer import Scoring
from trt_mpq.types import Score

EVALUATIONS = "evaluations.jsonl"
"""Every score that was ever measured in a run folder, each with what it depends on."""


@dataclass(frozen=True)
class CachedScore:
    """A score and what it cost.

    `keeps_target` is what a test that stopped early decided; None for a score on every sample, which decides by itself.
    """

    score: Score
    seconds: float
    keeps_target: bool | None = None


class ScoreCache:
    """An append-only file of scores; a line cut short by a kill is ignored.

    Args:
        path: The file; created on the first score.
        context: Digest of everything but the plan that a score depends on.
    """

    def __init__(self, path: Path, context: str) -> None:
        self._path, self._context = path, context
        self.samples: dict[str, Scores] = {}
        """What the metric keeps of each sample, in the order of the data, of plans that this process scored."""
        self.begun: dict[str, Scoring] = {}
        """Plans whose evaluation ended early in this process, to go on with."""
        self._scores = dict(self._read())

    def get(self, plan: str) -> CachedScore | None:
        """The score remembered under `plan`, if it was ever measured in this context."""
        return self._scores.get(plan)

    def seconds(self, *plans: str) -> float:
        """How long everything remembered under `plans` took."""
        return sum(self._scores[plan].seconds for plan in plans if plan in self._scores)

    def remember(self, plan: str, measure: Callable[[], Score]) -> CachedScore:
        """The score of `plan`, measured and timed now unless it is known; raises RunFolderError."""
        if plan not in self._scores:
            started = time.perf_counter()
            score = measure()
            self.put(plan, CachedScore(score, time.perf_counter() - started))
        return self._scores[plan]

    def put(self, plan: str, cached: CachedScore) -> None:
        """Remember a score, as it is on disk: a resumed run then adds up the same seconds; raises RunFolderError."""
        score, cached = cached.score, replace(cached, seconds=round(cached.seconds, 4))
        line: list[Any] = [self._context, plan, score.value, score.stderr, score.samples, cached.seconds]
        if cached.keeps_target is not None:
            line.append(cached.keeps_target)
        try:
            with open(self._path, "a+b", opener=not_through_a_link) as file:
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
                context, plan, value, stderr, samples, seconds, *decided = json.loads(line)
            except (ValueError, TypeError, RecursionError):  # the line a kill cut short, or somebody wrote
                continue
            if context == self._context and decided in ([], [True], [False]):
                yield plan, CachedScore(Score(value, stderr, samples), seconds, *decided)


def take_over(path: Path, others: Iterable[Path]) -> None:
    """Append to the scores in the file `path` those of `others` that it lacks; raises RunFolderError."""
    known = set(path.read_bytes().splitlines()) if path.exists() else set()
    lines = dict.fromkeys(line for other in others if other.exists() for line in other.read_bytes().splitlines())
    new = [line for line in lines if line not in known]
    if not new:
        return
    try:
        with open(path, "a+b", opener=not_through_a_link) as file:
            file.write(b"" if _ends_a_line(file) else b"\n")
            file.write(b"\n".join(new) + b"\n")
    except OSError as error:
        raise RunFolderError(cannot_write(path, error)) from error


def _ends_a_line(file: IO[bytes]) -> bool:
    if file.seek(0, os.SEEK_END) == 0:
        return True
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"
