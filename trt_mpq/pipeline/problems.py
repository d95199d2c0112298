"""From what a user asks for to what a search solves: one problem per ladder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from trt_mpq.evaluate.scorer import PlanEvaluator
from trt_mpq.latency.roofline import Latency, size_costs, weight_bytes
from trt_mpq.search import Budget, Limit, Problem
from trt_mpq.search.base import Evaluate, Judge
from trt_mpq.search.ladders import ladders_of
from trt_mpq.settings import Settings
from trt_mpq.types import Evaluation, Grouping, Precision, PrecisionPlan, Ranking


@dataclass(frozen=True)
class Sought:
    """What a search is to find, and by what it tells.

    Attributes:
        settings: What the user asked for.
        grouping: The groups, with what may not be.
        parameters: Parameters of the whole model.
        ranking: Sensitivity of every group.
        evaluate: Scores plans on every sample.
        judge: Judges plans on as few as that takes; None where that is all of them.
        delivered: Scores the files that are delivered for plans.
        seconds: What scoring and judging a plan took when it was done.
        latency: Times plans.
        required: Least score of a plan.
        notify: Told of every plan tried.
    """

    settings: Settings
    grouping: Grouping
    parameters: int
    ranking: Ranking
    evaluate: PlanEvaluator
    judge: Judge | None
    delivered: Evaluate
    seconds: Callable[[PrecisionPlan], float]
    latency: Latency
    required: float
    notify: Callable[[Evaluation], None]

    def problems(self) -> tuple[Problem, ...]:
        """One problem per ladder; raises SettingsError if nothing is known of a precision's latency."""
        ladders = ladders_of(self.settings.precisions, self.settings.mix_formats)
        return tuple(self._problem(ladder) for ladder in ladders)

    def _problem(self, ladder: tuple[Precision, ...]) -> Problem:
        options = {
            g.id: _options(g.allows, ladder, g.widest(ladder[0], self.grouping.refuge)) for g in self.grouping.groups
        }
        return Problem(
            groups=self.grouping.groups, ladder=ladder, refuge=self.grouping.refuge, ranking=self.ranking,
            evaluate=self.evaluate, judge=self.judge, delivered=self.delivered, seconds=self.seconds,
            latency=self.latency.plan_ms, required=self.required, notify=self.notify,
            costs=self.latency.costs(options), limit=self._limit(options),
            budget=Budget(self.settings.max_evaluations, self.settings.max_seconds),
        )  # fmt: skip

    def _limit(self, options: Mapping[str, Sequence[Precision]]) -> Limit | None:
        milliseconds, size = self.settings.target_latency, self.settings.target_size
        if milliseconds is not None:
            words = f"takes at most {milliseconds:g} ms"
            return Limit(words, milliseconds, self.latency.plan_ms, self.latency.costs(options))
        if size is not None:
            costs = size_costs(self.grouping, self._other_parameters, options)
            return Limit(f"takes at most {size} bytes", size, self._bytes, costs)
        return None

    def _bytes(self, plan: PrecisionPlan) -> float:
        return weight_bytes(plan, self.grouping, self._other_parameters)

    @property
    def _other_parameters(self) -> int:
        return self.parameters - self.grouping.weight_elements


def _options(
    allows: Callable[[Precision], bool], ladder: Sequence[Precision], widest: Precision
) -> tuple[Precision, ...]:
    """What a group may run in: the rungs it allows, or the widest it can where it does not allow the first."""
    return tuple(p for p in Precision if p is widest or (p in ladder and allows(p)))
