"""Plans that a search may ask for next, evaluated side by side before it does.

A search is a program whose only input is what it hears of plans. So it is run ahead, on nothing but what is known,
with both answers to the first plan of which nothing is, then to the next, until there is one plan for every worker.
The search itself is then told what was measured: it asks the same plans, hears the same and ends the same as alone.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from trt_mpq.errors import TargetNotReachable
from trt_mpq.search.base import Evaluator, Problem, Search
from trt_mpq.types import Judgement, PrecisionPlan, Score


@dataclass(frozen=True)
class PlanQuery:
    """What a search asks: whether a plan keeps the target, or with `judged` false its score on every sample."""

    plan: PrecisionPlan
    judged: bool


class ParallelEvaluator(Evaluator, Protocol):
    """An evaluator that knows what it was asked before, and can measure several plans side by side."""

    @property
    def side_by_side(self) -> int:
        """How many plans are measured at once."""

    def knows(self, asked: PlanQuery) -> bool:
        """Whether `asked` is answered without measuring."""

    def fill(self, asked: Sequence[PlanQuery]) -> None:
        """Measure all of `asked` side by side and remember them."""


class SpeculativeEvaluator:
    """An evaluator that measures a plan of which nothing is known together with others that a search may ask next.

    Of files that were not scored yet it is assumed that they stand for their plans, as nearly all do.

    Args:
        algorithm: The search.
        problem: What it solves, but with this evaluator.
        evaluate: Knows and measures.
    """

    def __init__(self, algorithm: Search, problem: Problem, evaluate: ParallelEvaluator) -> None:
        self._algorithm, self._problem, self._evaluate = algorithm, problem, evaluate
        self._files: dict[PrecisionPlan, Score] = {}
        self.stops_early, self.seconds = evaluate.stops_early, evaluate.seconds

    def score(self, plan: PrecisionPlan) -> Score:
        """As the evaluator says."""
        self._ahead(PlanQuery(plan, judged=False))
        return self._evaluate.score(plan)

    def judge(self, plan: PrecisionPlan) -> Judgement:
        """As the evaluator says."""
        self._ahead(PlanQuery(plan, judged=True))
        return self._evaluate.judge(plan)

    def delivered(self, plan: PrecisionPlan) -> Score:
        """As the evaluator says."""
        self._files[plan] = self._evaluate.delivered(plan)
        return self._files[plan]

    def _ahead(self, asked: PlanQuery) -> None:
        if not self._evaluate.knows(asked):
            self._evaluate.fill(tuple(self._next(self._evaluate.side_by_side)))

    def _next(self, count: int) -> Iterable[PlanQuery]:
        """Up to `count` things that the search may ask next, the certain one first, then those few answers away."""
        found: dict[PlanQuery, None] = {}
        assumptions: deque[dict[PlanQuery, bool]] = deque([{}])
        while assumptions and len(found) < count:
            assumed = assumptions.popleft()
            asked = self._first_unknown(_Assumed(self._problem.required, self._evaluate, self._files, assumed))
            if asked is not None and asked not in found:
                found[asked] = None
                assumptions.extend({**assumed, asked: answer} for answer in (True, False))
        return found

    def _first_unknown(self, assumed: _Assumed) -> PlanQuery | None:
        """What the search asks first that is neither known nor assumed; None if it ends without."""
        try:
            self._algorithm.run(replace(self._problem, evaluate=assumed, notify=lambda evaluation: None))
        except _UnknownError as unknown:
            return unknown.asked
        except TargetNotReachable:
            return None
        return None


class _UnknownError(Exception):
    """The search came to something of which neither what was measured nor the assumptions say anything."""

    def __init__(self, asked: PlanQuery) -> None:
        self.asked = asked


class _Assumed:
    """An evaluator that answers from what is known, and from assumptions."""

    def __init__(
        self,
        required: float,
        evaluate: ParallelEvaluator,
        files: Mapping[PrecisionPlan, Score],
        assumed: Mapping[PlanQuery, bool],
    ) -> None:
        self._required, self._evaluate, self._files, self._assumed = required, evaluate, files, assumed
        self.stops_early, self.seconds = evaluate.stops_early, evaluate.seconds

    def score(self, plan: PrecisionPlan) -> Score:
        asked = PlanQuery(plan, judged=False)
        if asked in self._assumed:
            return self._score(self._assumed[asked])
        return self._known(asked).score(plan)

    def judge(self, plan: PrecisionPlan) -> Judgement:
        asked = PlanQuery(plan, judged=True)
        if asked in self._assumed:
            return Judgement(self._score(self._assumed[asked]), self._assumed[asked], complete=False)
        return self._known(asked).judge(plan)

    def delivered(self, plan: PrecisionPlan) -> Score:
        return self._files.get(plan) or self._score(True)

    def _known(self, asked: PlanQuery) -> ParallelEvaluator:
        if not self._evaluate.knows(asked):
            raise _UnknownError(asked)
        return self._evaluate

    def _score(self, keeps: bool) -> Score:
        return Score(self._required if keeps else math.nextafter(self._required, -math.inf), 0.0, 0)
