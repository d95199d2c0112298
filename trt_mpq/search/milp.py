"""The mixed-integer linear program behind a frontier: costs as variables and rows, solved by HiGHS.

Variables are the choices, one per group and precision. Every clause and conjunction of `Costs` adds a continuous one,
which rows hold to 0 or 1 against the pull of the objective: what costs is kept from being too small, what saves from
being too large. Conjunctions that differ in nothing but what one group runs in exclude each other, and one row holds
their sum: without it a relaxation pays for no conversion to INT8 by splitting the writer among FP16 and FP8.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trt_mpq.search.costs import Choice, Clause, Costs
from trt_mpq.workers.streams import nothing_printed

_NODE_WORK = 2_000_000
"""Nonzeros that branches may take together: a limit that does not depend on the machine, some 20 s of one core."""
_FEWEST_NODES, _MOST_NODES = 20, 1_000
_EXACT = 1e-6
"""Gap that is the solver's own tolerance."""
_INFEASIBLE = 2
"""How scipy says that there is no solution."""


@dataclass(frozen=True)
class Solution:
    """What a solver found.

    Attributes:
        chosen: The choices made; None if none was found.
        gap: How far, as a share, the objective may be from the least there is; 0 where it is the least, or where it is
            proven that there is none, infinite where nothing was found and there may be something.
    """

    chosen: frozenset[Choice] | None
    gap: float


class Program:
    """Rows and variables that hold for every question about one set of costs.

    Args:
        costs: What plans cost.
        choices: Every choice there is; every group makes one of its own.
    """

    def __init__(self, costs: Costs, choices: Iterable[Choice]) -> None:
        self._choices = {choice: column for column, choice in enumerate(choices)}
        self._group = {column: group for (group, _), column in self._choices.items()}
        self.columns = len(self._choices)
        self._known: dict[Hashable, int] = {}
        self._rows: list[tuple[dict[int, float], float, float]] = []
        for own in self._by_group().values():
            self._rows.append((dict.fromkeys(own, 1.0), 1.0, 1.0))
        self._exclusive: dict[tuple[str, frozenset[int], bool], dict[int, int]] = defaultdict(dict)
        self.cost = self._cost_row(costs)
        self._hold_sums()

    def solve(
        self, objective: Any, limits: Iterable[tuple[Any, float]], without: Iterable[Iterable[Choice]]
    ) -> Solution:
        """The least `objective` [columns] with every row of `limits` at most its bound, and none of `without`."""
        from scipy.optimize import Bounds, LinearConstraint, milp

        integral = np.zeros(self.columns)
        integral[: len(self._choices)] = 1
        constraints = [self._constraint(), *(LinearConstraint(row, -np.inf, most) for row, most in limits)]
        for plan in without:
            made = [self._choices[choice] for choice in plan if choice in self._choices]
            row = np.zeros(self.columns)
            row[made] = 1
            constraints.append(LinearConstraint(row, -np.inf, len(self._by_group()) - 1))
        with nothing_printed():  # HiGHS says some things whatever it is told
            found = milp(
                objective, integrality=integral, bounds=Bounds(0, 1), constraints=constraints,
                options={"mip_rel_gap": 0.0, "node_limit": self._most_nodes()},
            )  # fmt: skip
        if found.x is None:
            return Solution(None, 0.0 if found.status == _INFEASIBLE else np.inf)
        chosen = frozenset(choice for choice, column in self._choices.items() if found.x[column] > 0.5)
        return Solution(chosen, gap_between(found.fun, found.mip_dual_bound))

    def row(self, amounts: Mapping[Choice, float]) -> Any:
        """A row [columns] with an amount for each choice."""
        row = np.zeros(self.columns)
        row[[self._choices[choice] for choice in amounts]] = list(amounts.values())
        return row

    def _by_group(self) -> dict[str, list[int]]:
        groups: dict[str, list[int]] = defaultdict(list)
        for column, group in self._group.items():
            if column < len(self._choices):
                groups[group].append(column)
        return groups

    def _most_nodes(self) -> int:
        nonzeros = sum(len(row) for row, _, _ in self._rows)
        return max(_FEWEST_NODES, min(_MOST_NODES, _NODE_WORK // max(nonzeros, 1)))

    def _cost_row(self, costs: Costs) -> dict[int, float]:
        row: dict[int, float] = defaultdict(float)
        for term in costs.terms:
            parts = [self._any_of(clause, saves=term.amount < 0) for clause in term.clauses]
            row[self._all_of(frozenset(parts), saves=term.amount < 0)] += term.amount
        return dict(row)

    def _any_of(self, clause: Clause, saves: bool) -> int:
        """The variable that is 1 if a choice of `clause` is made."""
        columns = sorted(self._choices[choice] for choice in clause if choice in self._choices)
        groups = {self._group[column] for column in columns}
        if len(columns) == 1:
            return columns[0]
        new, is_new = self._variable(("any", tuple(columns), saves))
        if is_new and len(groups) == 1:  # of which at most one is made
            self._rows.append(({new: 1.0, **dict.fromkeys(columns, -1.0)}, 0.0, 0.0))
            self._group[new] = groups.pop()
        elif is_new and saves:
            self._rows.append(({new: 1.0, **dict.fromkeys(columns, -1.0)}, -np.inf, 0.0))
        elif is_new:
            self._rows += [({new: 1.0, column: -1.0}, 0.0, np.inf) for column in columns]
        return new

    def _all_of(self, columns: frozenset[int], saves: bool) -> int:
        """The variable that is 1 if all of `columns` are."""
        if len(columns) == 1:
            return next(iter(columns))
        new, is_new = self._variable(("all", columns, saves))
        if is_new:
            for column in columns:
                if column in self._group:
                    self._exclusive[self._group[column], columns - {column}, saves][new] = column
        if is_new and saves:
            self._rows += [({new: 1.0, column: -1.0}, -np.inf, 0.0) for column in sorted(columns)]
        elif is_new:
            self._rows.append(({new: 1.0, **dict.fromkeys(sorted(columns), -1.0)}, 1.0 - len(columns), np.inf))
        return new

    def _variable(self, key: Hashable) -> tuple[int, bool]:
        """The variable that stands for `key`, and whether it is new."""
        is_new = key not in self._known
        if is_new:
            self._known[key] = self.columns
            self.columns += 1
        return self._known[key], is_new

    def _hold_sums(self) -> None:
        """One row for the sum of conjunctions that exclude each other: no group runs in two precisions."""
        for (_, others, saves), members in self._exclusive.items():
            if len(members) < 2:
                continue
            total = dict.fromkeys(members, 1.0)
            if saves:
                self._rows += [({**total, other: -1.0}, -np.inf, 0.0) for other in sorted(others)]
            else:
                chosen = dict.fromkeys((*members.values(), *sorted(others)), -1.0)
                self._rows.append(({**total, **chosen}, -float(len(others)), np.inf))

    def _constraint(self) -> Any:
        """All rows, for scipy."""
        from scipy.optimize import LinearConstraint
        from scipy.sparse import coo_array

        entries = [(i, j, value) for i, (row, _, _) in enumerate(self._rows) for j, value in row.items()]
        at, columns, values = zip(*entries, strict=True)
        matrix = coo_array((values, (at, columns)), shape=(len(self._rows), self.columns)).tocsr()
        return LinearConstraint(matrix, [low for _, low, _ in self._rows], [high for _, _, high in self._rows])


def gap_between(found: float, bound: float) -> float:
    """How far, as a share, `found` may be from the least there is; less than 1, of the 10,000 of all, counts as 1."""
    gap = (found - bound) / max(abs(found), 1.0)
    return gap if gap > _EXACT else 0.0
