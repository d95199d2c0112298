"""What every search shares: the problem, the record of plans tried, and how the winner is picked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from trt_mpq.errors import TargetNotReachable
from trt_mpq.types import Evaluation, Judgement, LayerGroup, Precision, PrecisionPlan, Ranking, Score, SearchResult

Evaluate = Callable[[PrecisionPlan], Score]
Judge = Callable[[PrecisionPlan], Judgement]
Latency = Callable[[PrecisionPlan], float]


@dataclass(frozen=True)
class Problem:
    """Find the plan with the lowest latency whose score is at least `required`.

    Attributes:
        groups: All groups, in network order.
        ladder: Precisions to choose from, widest first, e.g. (fp16, fp8, int8).
        ranking: Sensitivity of every group for every precision below the first.
        evaluate: Task score of a plan on every sample; expensive.
        latency: Milliseconds of a plan; cheap.
        required: Lowest acceptable score, absolute, compared exactly.
        refuge: What groups run in that may not run in the widest of the ladder.
        notify: Called with every new evaluation as it is made.
        judge: Says whether a plan keeps `required`, and may stop as soon as it is sure; without one, `evaluate` says.
    """

    groups: tuple[LayerGroup, ...]
    ladder: tuple[Precision, ...]
    ranking: Ranking
    evaluate: Evaluate
    latency: Latency
    required: float
    notify: Callable[[Evaluation], None] | None = None
    judge: Judge | None = None
    refuge: Precision = Precision.FP32

    def judged(self, plan: PrecisionPlan) -> Judgement:
        """Whether `plan` keeps the requirement, as cheaply as it can be told."""
        return self.judge(plan) if self.judge else self.measured(plan)

    def measured(self, plan: PrecisionPlan) -> Judgement:
        """The same, from every sample."""
        score = self.evaluate(plan)
        return Judgement(score, score.value >= self.required, complete=True)

    def uniform(self, precision: Precision) -> PrecisionPlan:
        """`precision` wherever it is allowed, else the widest of the ladder, its refuge, FP32."""
        return PrecisionPlan.uniform(self.groups, precision, self.ladder[0], self.refuge)

    def movable(self, plan: PrecisionPlan, rung: int) -> tuple[str, ...]:
        """Groups that may step from ``ladder[rung]`` to the next precision, least sensitive first.

        Those are the groups that took every earlier step they allow: a group that may run in fp16 and int8 but
        not in fp8 waits in fp16 for the step to int8.
        """
        precisions, reached, target = plan.as_dict(), self.ladder[: rung + 1], self.ladder[rung + 1]
        kept_up = {g.id for g in self.groups if g.allows(target) and precisions[g.id] is _narrowest(g, reached)}
        return tuple(group for group in self.ranking.order(target) if group in kept_up)


def _narrowest(group: LayerGroup, ladder: tuple[Precision, ...]) -> Precision:
    return next((precision for precision in reversed(ladder) if group.allows(precision)), Precision.FP32)


class Search(Protocol):
    """An algorithm that solves a `Problem`."""

    @property
    def name(self) -> str:
        """Spelling on the command line."""

    def run(self, problem: Problem) -> SearchResult:
        """The best plan evaluated; raises TargetNotReachable if none meets the requirement."""


class Trail:
    """The plans a search has tried, in order: each is judged once, and the winner measured on every sample."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._tried: dict[PrecisionPlan, Evaluation] = {}

    def evaluate(self, plan: PrecisionPlan, note: str) -> Evaluation:
        """Judge and time `plan`, or recall it; `note` says which step asked first."""
        if plan not in self._tried:
            self._record(plan, self._problem.judged, note)
        return self._tried[plan]

    def evaluate_uniform(self) -> tuple[Evaluation, ...]:
        """Measure the uniform plan of every precision, widest first: the baselines of the report."""
        for precision in self._problem.ladder:
            plan = self._problem.uniform(precision)
            if plan not in self._tried:
                self._record(plan, self._problem.measured, f"uniform {precision}")
        return tuple(self._tried[self._problem.uniform(precision)] for precision in self._problem.ladder)

    def result(self, algorithm: str) -> SearchResult:
        """The fastest feasible plan tried; ties go to the higher score, then to the earlier plan.

        Raises:
            TargetNotReachable: No plan tried is feasible.
        """
        while (fastest := self._fastest()) is not None:
            if fastest.complete:
                return SearchResult(algorithm, self._problem.ladder, fastest, tuple(self._tried.values()))
            self._record(fastest.plan, self._problem.measured, fastest.note)
        raise TargetNotReachable(self._explanation())

    def _fastest(self) -> Evaluation | None:
        feasible = [tried for tried in self._tried.values() if tried.feasible]
        return min(feasible, key=lambda tried: (tried.latency_ms, -tried.score.value), default=None)

    def _record(self, plan: PrecisionPlan, judge: Judge, note: str) -> None:
        latency_ms = self._problem.latency(plan)  # first: it refuses what the device cannot compute
        judgement = judge(plan)
        tried = Evaluation(plan, judgement.score, latency_ms, judgement.feasible, note, judgement.complete)
        self._tried[plan] = tried
        if self._problem.notify:
            self._problem.notify(tried)

    def _explanation(self) -> str:
        best = max(self._tried.values(), key=lambda tried: tried.score.value)
        mix = ", ".join(f"{count} x {precision}" for precision, count in best.plan.counts().items())
        return (
            f"none of {len(self._tried)} plans tried reaches the required score {self._problem.required:.6g}: the best "
            f"({best.note}: {mix}) scores {best.score.value:.6g}; lower --target-accuracy, give more calibration data "
            "or choose other --precisions"
        )


Step = Callable[[PrecisionPlan, Precision, tuple[str, ...]], PrecisionPlan]
"""(accepted plan, next precision, movable groups with the least sensitive first) to the next accepted plan."""


def descend(problem: Problem, trail: Trail, step: Step) -> None:
    """Go down the precision ladder from the widest uniform plan, one precision at a time.

    The walk of both sensitivity-guided searches of Schaefer et al., "Mixed Precision Post Training Quantization of
    Neural Networks with Sensitivity Guided Search", 2023. The abstract names the searches without spelling them
    out; the walk is our reading. The uniform plans come first: they are the baselines, and one may end a step early.
    """
    widest = trail.evaluate_uniform()[0]
    if not widest.feasible:
        return
    plan = widest.plan
    for rung, precision in enumerate(problem.ladder[1:]):
        plan = step(plan, precision, problem.movable(plan, rung))
