"""From a few timed engines to the table of what groups, boundaries and the rest cost.

Groups: the median over the engines in which a group runs in a precision and writes the same width. Boundaries: a
line over the bytes of all conversion kernels seen. How much of the conversions that plans ask for is realised, and
what all else costs: least squares over what groups leave of whole engines, so that costs that TensorRT hides in
other layers are not lost. How well that predicts is found by leaving each mixed engine out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import median

import numpy as np
from numpy.typing import NDArray

from trt_mpq.errors import RuntimeFailure
from trt_mpq.latency.dataflow import Dataflow
from trt_mpq.latency.device_table import ConversionCost, DeviceTable, MeasuredLatency, PredictionError, Provenance
from trt_mpq.latency.probing import Observation, ProbedEngine, Profiling, divided, observe
from trt_mpq.types import Grouping, LayerGroup, Precision

_Array = NDArray[np.float64]
_Times = dict[Precision, dict[str, float]]

_ROUNDS = 30
_HUBER = 1.345  # 95 % efficiency for normal residuals (Huber and Ronchetti, "Robust Statistics", 2009)
_MAD_TO_SIGMA = 1.4826
_SHORTEST_MS = 1e-6
_EXACT = 1e-9
"""A relative residual below this is rounding."""


def fit(
    probed: Sequence[ProbedEngine], grouping: Grouping, provenance: Provenance, counted_batches: int | None = None
) -> DeviceTable:
    """The device table of a model from engines of `probing_plans`.

    Args:
        probed: Engines that were built and timed, in any order; a plan may occur more than once.
        grouping: Groups and loose ops of the model.
        provenance: What was measured where.
        counted_batches: How many times an inference holds the samples that element counts of `grouping` hold for;
            the batch if left out.

    Raises:
        RuntimeFailure: There is no engine, or one without layer times.
    """
    if not probed:
        raise RuntimeFailure("no engine could be built and timed: there is nothing to make a device table of")
    batch = provenance.batch if counted_batches is None else counted_batches
    table = _fitted(probed, grouping, provenance, batch)
    return replace(table, error=_prediction_error(probed, grouping, table))


def _prediction_error(probed: Sequence[ProbedEngine], grouping: Grouping, table: DeviceTable) -> PredictionError | None:
    """Each mixed plan predicted from the engines of all other plans."""
    uniform = {grouping.uniform(precision) for precision in Precision}
    errors = []
    for plan in dict.fromkeys(engine.plan for engine in probed if engine.plan not in uniform):
        others = [engine for engine in probed if engine.plan != plan]
        if not others:
            continue
        without = _fitted(others, grouping, table.provenance, table.counted_batches)
        if without.covers(plan):
            predicted = MeasuredLatency(without, grouping).plan_ms(plan)
            errors += [abs(predicted / engine.gpu_ms - 1) for engine in probed if engine.plan == plan]
    return PredictionError(len(errors), sum(errors) / len(errors), max(errors)) if errors else None


def _fitted(
    probed: Sequence[ProbedEngine], grouping: Grouping, provenance: Provenance, counted_batches: int
) -> DeviceTable:
    profiling, flow, groups = Profiling.of(probed), Dataflow(grouping), grouping.groups
    observations = [observe(engine, flow, groups, provenance.batch, profiling) for engine in probed]
    times = _GroupTimes(observations, groups)
    conversion, other = _beyond_groups(observations, times, profiling.scale, counted_batches)
    return DeviceTable(
        provenance=provenance,
        builds=len(probed),
        counted_batches=counted_batches,
        group_ms=times.narrow,
        wide_ms=times.wide,
        conversion=conversion,
        other_ms=other,
        scale=profiling.scale,
        layer_overhead_ms=profiling.layer_ms,
        estimated=times.estimated,
    )


class _GroupTimes:
    """What every group takes, in every precision that occurs in any plan, widest first.

    Attributes:
        narrow: Times of groups that write their own format.
        wide: Times of 8-bit groups that write a wider one.
        estimated: Groups never seen.
    """

    def __init__(self, observations: Sequence[Observation], groups: Sequence[LayerGroup]) -> None:
        self._observations, self._groups = observations, groups
        self.narrow: _Times = {}
        self.wide: _Times = {}
        self.estimated: dict[Precision, tuple[str, ...]] = {}
        for precision in Precision:
            if any(precision in observation.plan.counts() for observation in observations):
                self._learn(precision)

    def sum_ms(self, observation: Observation) -> float:
        """What the groups of an engine take together."""
        formats = observation.formats
        return sum(
            (self.wide if formats.widens(group) else self.narrow)[formats.computed[group.id]][group.id]
            for group in self._groups
        )

    def _learn(self, precision: Precision) -> None:
        names = {g for observation in self._observations for g, p in observation.plan.assignments if p is precision}
        groups = [group for group in self._groups if group.id in names]
        own, wider = self._seen(precision, wide=False), self._seen(precision, wide=True)
        stretch = median([wider[g] / own[g] for g in own.keys() & wider.keys()] or [1.0])
        times = {**self._blurred(precision), **{g: ms / stretch for g, ms in wider.items()}, **own}
        hidden = [group for group in groups if group.id not in times]
        times |= self._estimates(precision, hidden, times)
        self.narrow[precision] = {group.id: times[group.id] for group in groups}
        if precision.quantized:
            self.wide[precision] = {g: wider.get(g, ms * stretch) for g, ms in self.narrow[precision].items()}
        if hidden:
            self.estimated[precision] = tuple(group.id for group in hidden)

    def _seen(self, precision: Precision, *, wide: bool) -> dict[str, float]:
        """Median time of groups that are seen in `precision` and write as `wide` says."""
        return self._medians(
            lambda observation, group: (
                observation.formats.computed[group.id] is precision
                and observation.formats.widens(group) is wide
                and group.id not in observation.blurred
            )
        )

    def _blurred(self, precision: Precision) -> dict[str, float]:
        """The same of groups that share a layer with other precisions, where most of the engine is in theirs."""
        most = self._most_groups(precision)
        return self._medians(
            lambda observation, group: (
                observation.formats.computed[group.id] is precision
                and group.id in observation.blurred
                and observation.plan.counts()[precision] == most
            )
        )

    def _most_groups(self, precision: Precision) -> int:
        """Groups that run in `precision` in the engine with most of it."""
        return max(observation.plan.counts().get(precision, 0) for observation in self._observations)

    def _medians(self, counts: Callable[[Observation, LayerGroup], bool]) -> dict[str, float]:
        """Median time of every group over the engines that show it and where it counts."""
        seen: dict[str, list[float]] = defaultdict(list)
        for observation in self._observations:
            for group in self._groups:
                if not observation.hides(group.id) and counts(observation, group):
                    seen[group.id].append(observation.group_ms[group.id])
        return {group: median(times) for group, times in seen.items()}

    def _estimates(
        self, precision: Precision, hidden: Sequence[LayerGroup], seen: Mapping[str, float]
    ) -> dict[str, float]:
        """Times of `hidden` groups at the rate of those `seen`, or as shares of the layers that must hold them."""
        if not hidden:
            return {}
        arithmetic = sum(group.flops for group in self._groups if group.id in seen)
        if arithmetic:
            return {group.id: sum(seen.values()) * group.flops / arithmetic for group in hidden}
        most = self._most_groups(precision)
        holders = [o for o in self._observations if o.plan.counts().get(precision, 0) == most]
        return {group.id: median(self._share_of_other(group, holder) for holder in holders) for group in hidden}

    def _share_of_other(self, group: LayerGroup, holder: Observation) -> float:
        """Time of `group` if the layers of no group in `holder` are but the hidden groups."""
        inside = {g.id: float(g.flops) for g in self._groups if g.id == group.id or holder.hides(g.id)}
        return holder.other_ms * divided(inside)[group.id]


def _beyond_groups(
    observations: Sequence[Observation], times: _GroupTimes, scale: float, counted_batches: int
) -> tuple[ConversionCost, dict[Precision, float]]:
    """Cost of a conversion, and per precision the time of all else, so that whole engines come out.

    Both explain what the groups leave of every engine. Where no mixed engine tells how many of the conversions
    that plans ask for are realised, all are taken to be; where no engine shows one, they are priced by the byte.
    """
    line = _conversion_line(observations)
    cost = ConversionCost(*(line or (0.0, 1.0)))
    asked = np.array([sum(cost.reformat_ms(r, counted_batches) for r in o.asked) for o in observations])
    beyond = np.array([o.gpu_ms / scale - times.sum_ms(o) for o in observations])
    precisions = tuple(times.narrow)
    mix = np.array([[o.plan.counts().get(p, 0) / len(o.plan.assignments) for p in precisions] for o in observations])
    design = np.column_stack([asked, mix])
    if np.linalg.matrix_rank(design) > np.linalg.matrix_rank(mix):
        realised, *other = _non_negative_least_squares(design, beyond).tolist()
        cost = replace(cost, realised=realised) if line else ConversionCost(0.0, realised)
    else:
        cost = cost if line else ConversionCost(0.0, 0.0)
        other = _non_negative_least_squares(mix, beyond - asked if line else beyond).tolist()
    return cost, dict(zip(precisions, other, strict=True))


def _conversion_line(observations: Sequence[Observation]) -> tuple[float, float] | None:
    """Intercept and slope over bytes of all conversion kernels: a constant if TensorRT hides every size."""
    rows = [conversion for observation in observations for conversion in observation.conversions]
    sized = [(moved_bytes, ms) for ms, moved_bytes in rows if moved_bytes is not None]
    sized = sized or [(0.0, ms) for ms, _ in rows]
    return _robust_line(*np.array(sized).T) if sized else None


def _robust_line(x: _Array, y: _Array) -> tuple[float, float]:
    """Intercept and slope, neither negative, of a line through `y` over `x`, both of shape (rows,), `y` positive.

    Residuals count relative to the line, as the noise of timings grows with the time, and those beyond what the
    others suggest count less (Huber's weights, iterated). Rows that share one `x` tell no slope.
    """
    design = np.stack([np.ones_like(x), x if np.ptp(x) > 0 else np.zeros_like(x)], axis=1)
    weights = 1 / y
    for _ in range(_ROUNDS):
        coefficients = _non_negative_least_squares(design * weights[:, None], y * weights)
        line = np.maximum(design @ coefficients, _SHORTEST_MS)
        residuals = np.abs(y / line - 1)
        bound = max(_HUBER * _MAD_TO_SIGMA * float(np.median(residuals)), _EXACT)
        weights = np.sqrt(bound / np.maximum(residuals, bound)) / line
    return float(coefficients[0]), float(coefficients[1])


def _non_negative_least_squares(matrix: _Array, values: _Array) -> _Array:
    """The `x` of shape (columns,), nowhere negative, that minimises ``|matrix @ x - values|``.

    Columns of bytes and of shares differ by a factor of 1e8, which the solver's tolerance does not bear: they are
    brought to one length first.
    """
    from scipy.optimize import nnls

    lengths = np.linalg.norm(matrix, axis=0)
    lengths[lengths == 0] = 1.0
    return np.asarray(nnls(matrix / lengths, values)[0] / lengths)
