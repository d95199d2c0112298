"""The plans nobody beats in both latency and predicted harm, each found exactly by a mixed-integer linear program.

Variables are the choices, one per group and precision; every clause and conjunction of `Costs` adds a continuous one
that its constraints hold to 0 or 1. Solved by HiGHS (Huangfu and Hall, "Parallelizing the dual revised simplex method",
2018) on one thread with ties broken by the other quantity, so the same question has the same answer.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np

from trt_mpq.search.costs import Choice, Clause, Costs
from trt_mpq.types import Grouping, PrecisionPlan

_SCALE = 1e4
"""What the costs of the most expensive plan and the harm of all are scaled to: the solver tolerates 1e-6 absolute."""
_TIE = 1e-5
"""Weight of the other quantity where the first is equal."""
_MOST_NODES = 1_000
"""Branches after which the best plan so far is taken, as a time limit that does not depend on the machine."""


class Frontier:
    """Answers which plan is best, from costs that are exact and harm that is predicted.

    Args:
        costs: Milliseconds (or bytes) of every plan.
        grouping: The groups.
        harm: Every choice there is, to its predicted harm, not negative; harms add up.
        solved: Where answers are looked up and left for frontiers that are asked the same.
    """

    def __init__(
        self,
        costs: Costs,
        grouping: Grouping,
        harm: Mapping[Choice, float],
        solved: dict[Hashable, PrecisionPlan | None] | None = None,
    ) -> None:
        self._costs, self._solved = costs, {} if solved is None else solved
        self._groups = tuple(group.id for group in grouping.groups)
        self._choices = {choice: column for column, choice in enumerate(harm)}
        self._harm = np.array(list(harm.values()))
        self._rows = _Rows(self._choices)
        for group in self._groups:
            self._rows.add({self._choices[c]: 1.0 for c in self._choices if c[0] == group}, 1.0, 1.0)
        self._cost = self._cost_row()

    def fastest(self, most_harm: float = np.inf) -> PrecisionPlan | None:
        """The cheapest plan of at most `most_harm`, the least harmful of equals; None if there is none."""
        harm, cost = self._scaled()
        bound = most_harm * self._harm_scale
        return self._solve(cost + _TIE * harm, [(harm, bound)] if np.isfinite(bound) else [], ())

    def gentlest(self, most: float, without: Iterable[PrecisionPlan] = ()) -> PrecisionPlan | None:
        """The least harmful plan that costs at most `most` and is none of `without`; None if there is none."""
        harm, cost = self._scaled()
        return self._solve(harm + _TIE * cost, [(cost, (most - self._costs.constant_ms) * self._cost_scale)], without)

    def harm(self, plan: PrecisionPlan) -> float:
        """The predicted harm of `plan`; infinite if it makes a choice there is not."""
        return sum(self._harm[self._choices[c]] if c in self._choices else np.inf for c in plan.assignments)

    def _cost_row(self) -> dict[int, float]:
        row: dict[int, float] = {}
        for term in self._costs.terms:
            column = self._rows.all_of([self._rows.any_of(clause) for clause in term.clauses])
            row[column] = row.get(column, 0.0) + term.ms
        return row

    @property
    def _harm_scale(self) -> float:
        return _SCALE / max(float(self._harm.sum()), 1e-300)

    @property
    def _cost_scale(self) -> float:
        return _SCALE / max(sum(abs(ms) for ms in self._cost.values()), 1e-300)

    def _scaled(self) -> tuple[Any, Any]:
        harm = np.zeros(self._rows.columns)
        harm[: len(self._harm)] = self._harm * self._harm_scale
        cost = np.zeros(self._rows.columns)
        cost[list(self._cost)] = np.array(list(self._cost.values())) * self._cost_scale
        return harm, cost

    def _solve(
        self, objective: Any, limits: list[tuple[Any, float]], without: Iterable[PrecisionPlan]
    ) -> PrecisionPlan | None:
        excluded = tuple(without)
        bounds = tuple((row.tobytes(), most) for row, most in limits)
        question = (self._costs, objective.tobytes(), bounds, frozenset(excluded))
        if question not in self._solved:
            self._solved[question] = self._solution(objective, limits, excluded)
        return self._solved[question]

    def _solution(
        self, objective: Any, limits: list[tuple[Any, float]], without: Iterable[PrecisionPlan]
    ) -> PrecisionPlan | None:
        from scipy.optimize import Bounds, LinearConstraint, milp

        integral = np.zeros(self._rows.columns)
        integral[: len(self._choices)] = 1
        constraints = [self._rows.constraint(), *(LinearConstraint(row, -np.inf, most) for row, most in limits)]
        for plan in without:
            row = np.zeros(self._rows.columns)
            row[[self._choices[c] for c in plan.assignments if c in self._choices]] = 1
            constraints.append(LinearConstraint(row, -np.inf, len(self._groups) - 1))
        found = milp(
            objective, integrality=integral, bounds=Bounds(0, 1), constraints=constraints,
            options={"mip_rel_gap": 0.0, "node_limit": _MOST_NODES},
        )  # fmt: skip
        if found.x is None:
            return None
        made = {group: precision for (group, precision), column in self._choices.items() if found.x[column] > 0.5}
        return PrecisionPlan.of({group: made[group] for group in self._groups})


class _Rows:
    """The constraints that hold for every question."""

    def __init__(self, choices: Mapping[Choice, int]) -> None:
        self.columns = len(choices)
        self._choices = choices
        self._known: dict[tuple[int, ...], int] = {}
        self._rows: list[tuple[dict[int, float], float, float]] = []

    def add(self, row: dict[int, float], low: float, high: float) -> None:
        """`low` <= `row` <= `high`."""
        self._rows.append((row, low, high))

    def any_of(self, clause: Clause) -> int:
        """The variable that is 1 if a choice of `clause` is made."""
        return self._joined(tuple(sorted(self._choices[c] for c in clause if c in self._choices)), least=1)

    def all_of(self, columns: Iterable[int]) -> int:
        """The variable that is 1 if all of `columns` are."""
        needed = tuple(sorted(set(columns)))
        return self._joined(needed, least=len(needed))

    def constraint(self) -> Any:
        """All rows, for scipy."""
        from scipy.optimize import LinearConstraint
        from scipy.sparse import coo_array

        entries = [(i, j, value) for i, (row, _, _) in enumerate(self._rows) for j, value in row.items()]
        at, columns, values = zip(*entries, strict=True)
        matrix = coo_array((values, (at, columns)), shape=(len(self._rows), self.columns)).tocsr()
        return LinearConstraint(matrix, [low for _, low, _ in self._rows], [high for _, _, high in self._rows])

    def _joined(self, columns: tuple[int, ...], least: int) -> int:
        """A variable that is 1 if at least `least` of `columns` are, which is one of them or all of them."""
        if len(columns) == 1:
            return columns[0]
        key = (least, *columns)
        if key not in self._known:
            new = self._known[key] = self.columns
            self.columns += 1
            every = least == len(columns) and least != 1
            for column in columns:
                self.add({new: 1.0, column: -1.0}, *((-np.inf, 0.0) if every else (0.0, np.inf)))
            low, high = (1.0 - len(columns), np.inf) if every else (-np.inf, 0.0)
            self.add({new: 1.0, **dict.fromkeys(columns, -1.0)}, low, high)
        return self._known[key]
