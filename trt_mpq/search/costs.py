"""What every plan costs, as a formula a solver can read: a constant and terms that a plan pays or does not.

A group costs its time, or its energy, in the precision it runs in. What makes the cost more than a sum over groups are
the tensors between them: a tensor is stored in 8 bit only if all who touch it run in that format, and a conversion is
paid once however many readers want it. Both are conditions on a few groups at once, which is all that a `Term` can say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from trt_mpq.types import Precision, PrecisionPlan

Choice = tuple[str, Precision]
"""A group and the precision it runs in, as in `PrecisionPlan.assignments`."""
Clause = tuple[Choice, ...]
"""Choices of which at least one is made."""


@dataclass(frozen=True)
class Term:
    """What a plan costs in which every clause holds; negative where that saves something."""

    amount: float
    clauses: tuple[Clause, ...]

    def holds(self, made: frozenset[Choice]) -> bool:
        """Whether a plan with the choices `made` pays it."""
        return all(any(choice in made for choice in clause) for clause in self.clauses)


@dataclass(frozen=True)
class Costs:
    """What every plan costs: a `constant` and the terms that hold."""

    constant: float
    terms: tuple[Term, ...]

    def of(self, plan: PrecisionPlan) -> float:
        """What `plan` costs."""
        made = frozenset(plan.assignments)
        return self.constant + sum(term.amount for term in self.terms if term.holds(made))


@dataclass(frozen=True)
class Cost:
    """Something that every plan has an amount of, such as milliseconds: as a function, and as terms for solvers.

    Attributes:
        of: The amount of a plan.
        terms: The same, as a formula.
        unit: Of the amounts.
        less: What a plan is called that has less of it than another.
        least: What the plan is called that has the least.
    """

    of: Callable[[PrecisionPlan], float]
    terms: Costs
    unit: str = "ms"
    less: str = "faster"
    least: str = "fastest"


@dataclass(frozen=True)
class Answer:
    """What a solver answers.

    Attributes:
        plan: The plan; None if there is none, or none was found.
        gap: How far as a share it may be from the best there is: 0 where it is the best or it is proven that there is
            none, infinite where none was found although there may be one.
    """

    plan: PrecisionPlan | None
    gap: float
