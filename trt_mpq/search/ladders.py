"""Which ladders a choice of precisions stands for, and the best result over all of them.

Whether INT8 and FP8 may share one strongly typed network is not known (one source says no), so unless
they are to be mixed, each 8-bit format is searched alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trt_mpq.errors import TargetNotReachable
from trt_mpq.search.base import Problem, Search
from trt_mpq.types import Precision, SearchResult

_EIGHT_BIT = (Precision.FP8, Precision.INT8)


def ladders_of(precisions: Sequence[Precision], mix_formats: bool) -> tuple[tuple[Precision, ...], ...]:
    """The ladders to search, each widest first; one per 8-bit format if several are chosen and not to be mixed."""
    ordered = tuple(p for p in Precision if p in precisions)
    formats = [p for p in _EIGHT_BIT if p in ordered]
    if mix_formats or len(formats) < 2:
        return (ordered,)
    return tuple(tuple(p for p in ordered if p is own or p not in _EIGHT_BIT) for own in formats)


def merged(algorithm: Search, problems: Iterable[Problem]) -> SearchResult:
    """Solve every problem and keep the fastest result; the path holds what all of them tried, each plan once.

    Raises:
        TargetNotReachable: No problem has a feasible plan.
    """
    results, failures = [], []
    for problem in problems:
        try:
            results.append(algorithm.run(problem))
        except TargetNotReachable as failure:
            failures.append(failure)
    if not results:
        raise failures[0]
    best = min((r.chosen for r in results), key=lambda e: (e.latency_ms, -e.score.value))
    path = {e.plan: e for result in reversed(results) for e in reversed(result.path)}
    ladder = tuple(p for p in Precision if any(p in result.ladder for result in results))
    return SearchResult(results[0].algorithm, ladder, best, tuple(reversed(path.values())))
