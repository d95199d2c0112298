"""No search at all: one precision for the whole network, the baseline every search has to beat."""

from __future__ import annotations

from trt_mpq.search.base import Problem, Trail
from trt_mpq.types import SearchResult


class Uniform:
    """Tries the uniform plan of every precision of the ladder."""

    name = "uniform"
    accuracy_only = False

    def ranks(self, problem: Problem) -> bool:
        """Never: uniform plans are few."""
        return False

    def run(self, problem: Problem) -> SearchResult:
        """The best uniform plan; raises TargetNotReachable if none meets the requirement."""
        trail = Trail(problem)
        with trail.until_spent():
            trail.evaluate_uniform()
        return trail.result(self.name)
