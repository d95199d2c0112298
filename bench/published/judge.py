"""How far modelled latencies are from published ones."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from bench.published.rows import Point
from trt_mpq.types import Precision

Model = Callable[[Point, Precision], float]
"""Modelled milliseconds of a point in one precision."""
_FEWEST = 4
"""Fewer ratios have no rank correlation worth a number."""


@dataclass(frozen=True)
class Errors:
    """Of some points; None where there is nothing to tell one from.

    Attributes:
        ratios: How many pairs of an 8-bit format and FP16.
        ratio: Mean absolute error of their ratio.
        bias: Mean of modelled minus published ratio.
        rank: Spearman's correlation of modelled with published ratios.
        times: How many times.
        log: Mean absolute error of the logarithm of times.
        offset: Mean of the logarithm of modelled over published times.
    """

    ratios: int
    ratio: float | None
    bias: float | None
    rank: float | None
    times: int
    log: float | None
    offset: float | None


@dataclass(frozen=True)
class Comparison:
    """One point with what the model says of it."""

    point: Point
    modelled: Mapping[Precision, float]

    def ratios(self) -> Iterable[tuple[float, float]]:
        """Published and modelled ratio of every 8-bit format."""
        for precision in (Precision.INT8, Precision.FP8):
            published = self.point.ratio(precision)
            if published is not None:
                yield published, self.modelled[precision] / self.modelled[Precision.FP16]

    def logs(self) -> Iterable[float]:
        """Logarithm of modelled over published time of every precision."""
        return (math.log(ms / self.point.ms[precision]) for precision, ms in self.modelled.items())


def compared(points: Sequence[Point], model: Model) -> list[Comparison]:
    """Every point with the model's times of all its precisions."""
    return [Comparison(point, {precision: model(point, precision) for precision in point.ms}) for point in points]


def errors(comparisons: Sequence[Comparison]) -> Errors:
    """The errors of some comparisons, every ratio and every time with the same weight."""
    from scipy.stats import spearmanr

    ratios = [pair for one in comparisons for pair in one.ratios()]
    logs = [log for one in comparisons for log in one.logs()]
    differences = [modelled - published for published, modelled in ratios]
    ranked = float(spearmanr(*zip(*ratios, strict=True)).statistic) if len(ratios) >= _FEWEST else None
    return Errors(
        ratios=len(ratios),
        ratio=_mean(map(abs, differences)),
        bias=_mean(differences),
        rank=ranked,
        times=len(logs),
        log=_mean(map(abs, logs)),
        offset=_mean(logs),
    )


def stated(comparisons: Sequence[Comparison]) -> tuple[float, float]:
    """Error of times, relative, and of ratios, absolute, every network on a device counting once."""
    parts: dict[tuple[str, str], list[Comparison]] = defaultdict(list)
    for one in comparisons:
        parts[one.point.network, one.point.device].append(one)
    found = [errors(part) for part in parts.values()]
    times, ratios = (
        fmean(value for value in values if value is not None)
        for values in ((one.log for one in found), (one.ratio for one in found))
    )
    return times, ratios


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return fmean(known) if known else None
