"""Searches: from a sensitivity ranking to the fastest plan that still meets the accuracy target.

A search knows nothing but `evaluate` and `latency`. To add one, write a class with `name` and `run` and list
it here; the contract tests then cover it.
"""

from __future__ import annotations

from trt_mpq.errors import SettingsError
from trt_mpq.search.base import Budget, Evaluator, Limit, Problem, Search
from trt_mpq.search.bisection import Bisection
from trt_mpq.search.costs import Cost
from trt_mpq.search.greedy import Greedy
from trt_mpq.search.ilp import IntegerProgram
from trt_mpq.search.ladders import ladders_of, merged, problem_of
from trt_mpq.search.pareto import Pareto
from trt_mpq.search.uniform import Uniform

__all__ = [
    "SEARCHES",
    "Bisection",
    "Budget",
    "Cost",
    "Evaluator",
    "Greedy",
    "IntegerProgram",
    "Limit",
    "Pareto",
    "Problem",
    "Search",
    "Uniform",
    "ladders_of",
    "merged",
    "problem_of",
    "search_from_name",
]

SEARCHES: dict[str, Search] = {
    search.name: search for search in (IntegerProgram(), Pareto(), Bisection(), Greedy(), Uniform())
}


def search_from_name(name: str) -> Search:
    """The search called `name`; raises SettingsError listing the names if there is none."""
    if name not in SEARCHES:
        raise SettingsError(f"unknown search '{name}': choose one of {', '.join(SEARCHES)}")
    return SEARCHES[name]
