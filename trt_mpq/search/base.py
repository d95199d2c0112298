"""What every search shares: the problem, the record of plans tried, and how the winner is picked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from trt_mpq.errors import TargetNotReachable
from trt_mpq.types import Evaluation, LayerGroup, Precision, PrecisionPlan, Ranking, Score, SearchResult

Evaluate = Callable[[PrecisionPlan], Score]
Latency = Callable[[PrecisionPlan], float]


@dataclass(frozen=True)
class Problem:
    """Find the plan with the lowest latency whose score is at least `required`.

    Attributes:
        groups: All groups, in network order.
        ladder: Precisions to choose from, widest first, e.g. (fp16, fp8, int8).
        ranking: Sensitivity of every group for every precision below the first.
        evaluate: Task score of a plan; expensive.
        latency: Milliseconds of a plan; cheap.
        required: Lowest acceptable score, absolute, compared exactly.
        notify: Called with every new evaluation as it is made.
    """

    groups: tuple[LayerGroup, ...]
    ladder: tuple[Precision, ...]
    ranking: Ranking
    evaluate: Evaluate
    latency: Latency
    required: float
    notify: Callable[[Evaluation], None] | None = None

    def uniform(self, precision: Precision) -> PrecisionPlan:
        """`precision` wherever it is allowed, else the widest of the ladder, else FP32."""
        return PrecisionPlan.uniform(self.groups, precision, self.ladder[0])

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
    """The plans a search has tried: each is evaluated once, in order."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._tried: dict[PrecisionPlan, Evaluation] = {}

    def evaluate(self, plan: PrecisionPlan, note: str) -> Evaluation:
        """Score and time `plan`, or recall it; `note` says which step asked first."""
        if plan not in self._tried:
            latency_ms = self._problem.latency(plan)
            score = self._problem.evaluate(plan)
            self._tried[plan] = Evaluation(plan, score, latency_ms, score.value >= self._problem.required, note)
            if self._problem.notify:
                self._problem.notify(self._tried[plan])
        return self._tried[plan]

    def evaluate_uniform(self) -> tuple[Evaluation, ...]:
        """Try the uniform plan of every precision, widest first: the baselines of the report."""
        return tuple(self.evaluate(self._problem.uniform(p), f"uniform {p}") for p in self._problem.ladder)

    def result(self, algorithm: str) -> SearchResult:
        """The fastest feasible plan tried; ties go to the higher score, then to the earlier plan.

        Raises:
            TargetNotReachable: No plan tried is feasible.
        """
        path = tuple(self._tried.values())
        feasible = [tried for tried in path if tried.feasible]
        if not feasible:
            raise TargetNotReachable(self._explanation())
        chosen = min(feasible, key=lambda tried: (tried.latency_ms, -tried.score.value))
        return SearchResult(algorithm, self._problem.ladder, chosen, path)

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
