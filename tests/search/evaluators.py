"""What searches ask, answered by functions: scores of plans and of their files, judgements, and costs that add up."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trt_mpq.search.costs import Cost, Costs, Term
from trt_mpq.types import Grouping, Judgement, Precision, PrecisionPlan, Score


class Answers:
    """An evaluator made of functions.

    Args:
        score: Of a plan.
        judge: Whether a plan keeps the target; None where evaluations never stop early.
        delivered: What the file of a plan scores; None where it scores as the plan does.
        seconds: What a plan took.
    """

    def __init__(
        self,
        score: Callable[[PrecisionPlan], Score],
        *,
        judge: Callable[[PrecisionPlan], Judgement] | None = None,
        delivered: Callable[[PrecisionPlan], Score] | None = None,
        seconds: Callable[[PrecisionPlan], float] = lambda plan: 0.0,
    ) -> None:
        self._judge, self._delivered = judge, delivered or score
        self.score, self.seconds, self.stops_early = score, seconds, judge is not None

    def judge(self, plan: PrecisionPlan) -> Judgement:
        assert self._judge is not None, "nobody asks a judge who is not there"
        return self._judge(plan)

    def delivered(self, plan: PrecisionPlan) -> Score:
        return self._delivered(plan)


def cost_of(grouping: Grouping, ladder: Sequence[Precision], amount: Callable[[PrecisionPlan], float]) -> Cost:
    """`amount`, of which solvers know what every group saves on its own, and take that to add up."""
    widest = PrecisionPlan.uniform(grouping.groups, ladder[0], ladder[0])
    base = amount(widest)
    moves = [(g.id, p) for g in grouping.groups for p in ladder[1:] if g.allows(p)]
    terms = tuple(Term(amount(widest.replace(dict([move]))) - base, ((move,),)) for move in moves)
    return Cost(amount, Costs(base, terms))
