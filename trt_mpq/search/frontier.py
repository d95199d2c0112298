"""The plans nobody beats in both latency and predicted harm, each found by a mixed-integer linear program.

Solved by HiGHS (Huangfu and Hall, "Parallelizing the dual revised simplex method", 2018) on one thread with ties broken
by the other quantity, so the same question has the same answer. Branches are limited, not seconds, so that it is so on
every machine; how far the answer may be from the best is told.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from trt_mpq.search.costs import Answer, Choice, Costs
from trt_mpq.search.milp import Program
from trt_mpq.types import Grouping, Precision, PrecisionPlan

_SCALE = 1e4
"""What the costs of the most expensive plan and the harm of all are scaled to: the solver tolerates 1e-6 absolute."""
_TIE = 1e-5
"""Weight of the other quantity where the first is equal."""


class Frontier:
    """Answers which plan is best, from costs that are exact and harm that is predicted.

    Args:
        costs: What every plan costs.
        grouping: The groups.
        harm: Every choice there is, to its predicted harm, not negative; harms add up.
        solved: Where answers are looked up and left for frontiers that are asked the same.
    """

    def __init__(
        self,
        costs: Costs,
        grouping: Grouping,
        harm: Mapping[Choice, float],
        solved: dict[Hashable, Answer] | None = None,
    ) -> None:
        self._costs, self._solved, self._harm = costs, {} if solved is None else solved, harm
        self._groups = tuple(group.id for group in grouping.groups)
        self._program = Program(costs, harm)
        self._harm_scale = _SCALE / max(sum(harm.values()), 1e-300)
        self._cost_scale = _SCALE / max(sum(abs(ms) for ms in self._program.cost.values()), 1e-300)

    def cheapest(self, most_harm: float = np.inf) -> Answer:
        """The cheapest plan of at most `most_harm`, the least harmful of equals."""
        harm, cost = self._scaled()
        bound = most_harm * self._harm_scale
        return self._solve(cost + _TIE * harm, [(harm, bound)] if np.isfinite(bound) else [], ())

    def gentlest(self, most: float, without: Iterable[PrecisionPlan] = ()) -> Answer:
        """The least harmful plan that costs at most `most` and is none of `without`."""
        harm, cost = self._scaled()
        return self._solve(harm + _TIE * cost, [(cost, (most - self._costs.constant) * self._cost_scale)], without)

    def harm(self, plan: PrecisionPlan) -> float:
        """The predicted harm of `plan`; infinite if it makes a choice there is not."""
        return sum(self._harm.get(choice, np.inf) for choice in plan.assignments)

    def _scaled(self) -> tuple[Any, Any]:
        cost = np.zeros(self._program.columns)
        cost[list(self._program.cost)] = np.array(list(self._program.cost.values())) * self._cost_scale
        return self._program.row(self._harm) * self._harm_scale, cost

    def _solve(self, objective: Any, limits: list[tuple[Any, float]], without: Iterable[PrecisionPlan]) -> Answer:
        excluded = tuple(without)
        bounds = tuple((row.tobytes(), most) for row, most in limits)
        question = (self._costs, objective.tobytes(), bounds, frozenset(excluded))
        if question not in self._solved:
            found = self._program.solve(objective, limits, (plan.assignments for plan in excluded))
            chosen = None if found.chosen is None else dict(found.chosen)
            plan = chosen and PrecisionPlan.of({group: chosen[group] for group in self._groups})
            self._solved[question] = Answer(plan or None, found.gap)
        return self._solved[question]


def cheapest_of_all(
    costs: Costs, grouping: Grouping, ladder: Sequence[Precision], solved: dict[Hashable, Answer] | None = None
) -> Answer:
    """The plan in the precisions of `ladder` of least cost, of equals one that lowers the fewest groups."""
    options = grouping.options(ladder)
    lowered = {
        (group.id, p): float(p is not grouping.widest(group)) for group in grouping.groups for p in options[group.id]
    }
    return Frontier(costs, grouping, lowered, solved).cheapest()
