"""From a few timed engines to the table of what groups, boundaries and the rest cost.

Groups: the median over the engines in which a group runs in a precision and writes the same width. Boundaries: a
line over the bytes of all conversion kernels seen. How much of the conversions that plans ask for is realised, and
what all else costs: least squares over what groups leave of whole engines, so that costs that TensorRT hides in
other layers are not lost. How well that predicts is found by leaving each mixed engine out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median

import numpy as np

from trt_mpq.errors import RuntimeFailure
from trt_mpq.latency.dataflow import Dataflow, Reformat
from trt_mpq.latency.device_table.measured import MeasuredLatency, shares
from trt_mpq.latency.device_table.observation import Observation, Profiling, divided, observe, profiling_of
from trt_mpq.latency.device_table.regression import non_negative_least_squares, robust_line
from trt_mpq.latency.device_table.values import ConversionCost, DeviceTable, PredictionError, ProbedEngine, Provenance
from trt_mpq.types import Grouping, LayerGroup, Precision

Times = dict[Precision, dict[str, float]]


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
    table = _Fit(probed, grouping, provenance, batch).table
    return replace(table, error=_prediction_error(probed, grouping, table))


def _prediction_error(probed: Sequence[ProbedEngine], grouping: Grouping, table: DeviceTable) -> PredictionError | None:
    """Each mixed plan predicted from the engines of all other plans."""
    uniform = {grouping.uniform(precision) for precision in Precision}
    errors = []
    for plan in dict.fromkeys(engine.plan for engine in probed if engine.plan not in uniform):
        others = [engine for engine in probed if engine.plan != plan]
        if not others:
            continue
        without = _Fit(others, grouping, table.provenance, table.counted_batches).table
        if without.covers(plan):
            predicted = MeasuredLatency(without, grouping).plan_ms(plan)
            errors += [abs(predicted / engine.gpu_ms - 1) for engine in probed if engine.plan == plan]
    return PredictionError(len(errors), sum(errors) / len(errors), max(errors)) if errors else None


@dataclass(frozen=True)
class _Fit:
    """The pieces of a table, each from the observations and the pieces before it."""

    probed: Sequence[ProbedEngine]
    grouping: Grouping
    provenance: Provenance
    counted_batches: int

    @property
    def table(self) -> DeviceTable:
        narrow, wide, estimated = self.group_times
        conversion, other = self.beyond_groups
        return DeviceTable(
            provenance=self.provenance,
            builds=len(self.probed),
            counted_batches=self.counted_batches,
            group_ms=narrow,
            wide_ms=wide,
            conversion=conversion,
            other_ms=other,
            scale=self.profiling.scale,
            layer_overhead_ms=self.profiling.layer_ms,
            estimated=estimated,
        )

    @cached_property
    def profiling(self) -> Profiling:
        return profiling_of(self.probed)

    @cached_property
    def observations(self) -> list[Observation]:
        flow, groups, batch = Dataflow(self.grouping), self.grouping.groups, self.provenance.batch
        return [observe(engine, flow, groups, batch, self.profiling) for engine in self.probed]

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Those that occur in any plan, widest first."""
        return tuple(p for p in Precision if any(p in observation.plan.counts() for observation in self.observations))

    @cached_property
    def group_times(self) -> tuple[Times, Times, dict[Precision, tuple[str, ...]]]:
        """Times of groups that write their own format, of 8-bit ones that write wider, and groups never seen."""
        narrow, wide, estimated = {}, {}, {}
        for precision in self.precisions:
            groups = self._assigned(precision)
            own, wider = self._seen(precision, wide=False), self._seen(precision, wide=True)
            stretch = median([wider[g] / own[g] for g in own.keys() & wider.keys()] or [1.0])
            times = {**self._blurred(precision), **{g: ms / stretch for g, ms in wider.items()}, **own}
            hidden = [group for group in groups if group.id not in times]
            times |= self._estimates(precision, hidden, times)
            narrow[precision] = {group.id: times[group.id] for group in groups}
            if precision.quantized:
                wide[precision] = {g: wider.get(g, ms * stretch) for g, ms in narrow[precision].items()}
            if hidden:
                estimated[precision] = tuple(group.id for group in hidden)
        return narrow, wide, estimated

    def _assigned(self, precision: Precision) -> list[LayerGroup]:
        """Groups that run in `precision` in any plan."""
        names = {g for observation in self.observations for g, p in observation.plan.assignments if p is precision}
        return [group for group in self.grouping.groups if group.id in names]

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
        return max(observation.plan.counts().get(precision, 0) for observation in self.observations)

    def _medians(self, counts: Callable[[Observation, LayerGroup], bool]) -> dict[str, float]:
        """Median time of every group over the engines that show it and where it counts."""
        seen: dict[str, list[float]] = defaultdict(list)
        for observation in self.observations:
            for group in self.grouping.groups:
                if not observation.hides(group.id) and counts(observation, group):
                    seen[group.id].append(observation.group_ms[group.id])
        return {group: median(times) for group, times in seen.items()}

    def _estimates(
        self, precision: Precision, hidden: Sequence[LayerGroup], seen: Mapping[str, float]
    ) -> dict[str, float]:
        """Times of `hidden` groups at the rate of those `seen`, or as shares of the layers that must hold them."""
        if not hidden:
            return {}
        visible = [group for group in self.grouping.groups if group.id in seen]
        arithmetic = sum(group.flops for group in visible)
        if arithmetic:
            return {group.id: sum(seen.values()) * group.flops / arithmetic for group in hidden}
        most = self._most_groups(precision)
        holders = [o for o in self.observations if o.plan.counts().get(precision, 0) == most]
        return {group.id: median(self._share_of_other(group, holder) for holder in holders) for group in hidden}

    def _share_of_other(self, group: LayerGroup, holder: Observation) -> float:
        """Time of `group` if the layers of no group in `holder` are but the hidden groups."""
        inside = {g.id: float(g.flops) for g in self.grouping.groups if g.id == group.id or holder.hides(g.id)}
        return holder.other_ms * divided(inside)[group.id]

    @cached_property
    def beyond_groups(self) -> tuple[ConversionCost, dict[Precision, float]]:
        """Cost of a conversion, and per precision the time of all else, so that whole engines come out.

        Both explain what the groups leave of every engine. Where no mixed engine tells how many of the conversions
        that plans ask for are realised, all are taken to be; where no engine shows one, they are priced by the byte.
        """
        line = self._line()
        cost = ConversionCost(*(line or (0.0, 1.0)))
        asked = np.array([sum(cost.kernel_ms(self._moved_bytes(r)) for r in o.asked) for o in self.observations])
        beyond = np.array([o.gpu_ms / self.profiling.scale - sum(self._group_ms(o)) for o in self.observations])
        rows = [shares(observation.plan) for observation in self.observations]
        mix = np.array([[row.get(precision, 0.0) for precision in self.precisions] for row in rows])
        design = np.column_stack([asked, mix])
        if np.linalg.matrix_rank(design) > np.linalg.matrix_rank(mix):
            realised, *other = non_negative_least_squares(design, beyond).tolist()
            cost = replace(cost, realised=realised) if line else ConversionCost(0.0, realised)
        else:
            cost = cost if line else ConversionCost(0.0, 0.0)
            other = non_negative_least_squares(mix, beyond - asked if line else beyond).tolist()
        return cost, dict(zip(self.precisions, other, strict=True))

    def _moved_bytes(self, reformat: Reformat) -> float:
        return reformat.moved_bits * self.counted_batches / 8

    def _group_ms(self, observation: Observation) -> Iterator[float]:
        narrow, wide, _ = self.group_times
        for group in self.grouping.groups:
            times = wide if observation.formats.widens(group) else narrow
            yield times[observation.formats.computed[group.id]][group.id]

    def _line(self) -> tuple[float, float] | None:
        """Intercept and slope over bytes of all conversion kernels: a constant if TensorRT hides every size."""
        rows = [conversion for observation in self.observations for conversion in observation.conversions]
        sized = [(row.moved_bytes, row.ms) for row in rows if row.moved_bytes is not None]
        sized = sized or [(0.0, row.ms) for row in rows]
        return robust_line(*np.array(sized).T) if sized else None
