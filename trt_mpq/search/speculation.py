"""Plans that a search may ask for next, evaluated side by side before it does.

A search is a program whose only input is what it hears of plans. So it is run ahead, on nothing but what is known,
with both answers to the first plan of which nothing is, then to the next, until there is one plan for every worker.
The search itself is then told what was measured: it asks the same plans, hears the same and ends the same as alone.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from trt_mpq.errors import TargetNotReachable
from trt_mpq.search import Problem, Search
from trt_mpq.types import Judgement, PrecisionPlan, Score


@dataclass(frozen=True)
class Asked:
    """What a search asks: whether a plan keeps the target, or with `judged` false its score on every sample."""

    plan: PrecisionPlan
    judged: bool


class Memory(Protocol):
    """What is known of plans."""

    @property
    def count(self) -> int:
        """How many plans are measured side by side."""

    def knows(self, asked: Asked) -> bool:
        """Whether the problem answers `asked` without measuring."""

    def fill(self, asked: Sequence[Asked]) -> None:
        """Measure all of `asked` side by side and remember them."""


def foreseeing(algorithm: Search, problem: Problem, memory: Memory) -> Problem:
    """`problem`, in which an answer that is not known is measured together with others that `algorithm` may need.

    Of files that were not scored yet it is assumed that they keep the requirement, as nearly all do.

    Args:
        algorithm: What solves the problem.
        problem: The problem; it answers from `memory` what that knows.
        memory: Knows and measures.
    """

    def ahead(judged: bool, plan: PrecisionPlan) -> None:
        if not memory.knows(Asked(plan, judged)):
            memory.fill(tuple(next_asked(algorithm, assumed, memory, memory.count)))

    def evaluate(plan: PrecisionPlan) -> Score:
        ahead(False, plan)
        return problem.evaluate(plan)

    judge, files, delivered = problem.judge, dict[PrecisionPlan, Score](), problem.delivered
    keeps = Score(problem.required, 0.0, 0)
    assumed = replace(problem, delivered=lambda plan: files.get(plan, keeps)) if delivered else problem

    def scored_file(plan: PrecisionPlan) -> Score:
        assert delivered is not None
        files[plan] = delivered(plan)
        return files[plan]

    def judged(plan: PrecisionPlan) -> Judgement:
        ahead(True, plan)
        assert judge is not None
        return judge(plan)

    return replace(
        problem, evaluate=evaluate, judge=judged if judge else None, delivered=scored_file if delivered else None
    )


def next_asked(algorithm: Search, problem: Problem, memory: Memory, count: int) -> Iterable[Asked]:
    """Up to `count` things that `algorithm` may ask next, the certain one first, then those few answers away."""
    found: dict[Asked, None] = {}
    assumptions: deque[dict[Asked, bool]] = deque([{}])
    while assumptions and len(found) < count:
        assumed = assumptions.popleft()
        asked = _first_unknown(algorithm, problem, memory, assumed)
        if asked is not None and asked not in found:
            found[asked] = None
            assumptions.extend({**assumed, asked: answer} for answer in (True, False))
    return found


class _UnknownError(Exception):
    """The search came to something of which neither the memory nor the assumptions say anything."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked


def _first_unknown(algorithm: Search, problem: Problem, memory: Memory, assumed: dict[Asked, bool]) -> Asked | None:
    """What `algorithm` asks first that is neither known nor assumed; None if it ends without."""

    def answered(judged: bool, known: Callable[[PrecisionPlan], Judgement]) -> Callable[[PrecisionPlan], Judgement]:
        def answer(plan: PrecisionPlan) -> Judgement:
            asked = Asked(plan, judged)
            if asked in assumed:
                value = problem.required if assumed[asked] else math.nextafter(problem.required, -math.inf)
                return Judgement(Score(value, 0.0, 0), assumed[asked], complete=not judged)
            if memory.knows(asked):
                return known(plan)
            raise _UnknownError(asked)

        return answer

    measured = answered(False, problem.measured)
    told = replace(
        problem,
        evaluate=lambda plan: measured(plan).score,
        judge=answered(True, problem.judge) if problem.judge else None,
        notify=None,
    )
    try:
        algorithm.run(told)
    except _UnknownError as unknown:
        return unknown.asked
    except TargetNotReachable:
        return None
    return None
