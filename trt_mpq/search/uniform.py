"""No search at all: one precision for the whole network, the baseline every search has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from trt_mpq.search.base import Problem, Trail
from trt_mpq.search.ladders import merged
from trt_mpq.types import SearchResult


class Uniform:
    """Tries the uniform plan of every precision of the ladder."""

    name = "uniform"
    accuracy_only = False

    def unranked(self, problems: Sequence[Problem]) -> SearchResult | None:
        """Always: uniform plans are few."""
        return replace(merged(self, problems), unranked="uniform plans need no ranking")

    def run(self, problem: Problem) -> SearchResult:
        """The best uniform plan; raises TargetNotReachable if none meets the requirement."""
        trail = Trail(problem)
        with trail.until_spent():
            trail.evaluate_uniform()
        return trail.result(self.name)
