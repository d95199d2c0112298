"""Why every group has its precision, in a few words: pinned, unsupported, no gain, a boundary that costs, accuracy.

Answered by asking what would change if this group alone moved, everything else as in the plan.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field

from trt_mpq.evaluate.score_scale import score_scale, significant
from trt_mpq.latency.base import Latency
from trt_mpq.types import Evaluation, Grouping, LayerGroup, Precision, PrecisionPlan, Ranking, SearchResult, Target

_NOTHING = 1e-3
"""Share of the plan's latency below which a change is none."""


@dataclass(frozen=True)
class Explainer:
    """Explains the plan of a search.

    Args:
        result: What the search found.
        grouping: The groups.
        ranking: Sensitivity of every group.
        latency: Times plans.
        target: The GPU.
        required: Least score of a plan; None where it was no condition.
        rescued: Groups that refinement for exactly this plan brought down.
        refused: Groups that NVIDIA's compiler refuses, to the precision it refuses them in.
        metric: Task metric.
    """

    result: SearchResult
    grouping: Grouping
    ranking: Ranking
    latency: Latency
    target: Target
    required: float | None
    rescued: Container[str] = ()
    refused: Mapping[str, Precision] = field(default_factory=dict)
    metric: str = ""

    @property
    def _plan(self) -> PrecisionPlan:
        return self.result.chosen.plan

    def reason(self, group: LayerGroup) -> str:
        """Why `group` runs in what the plan says."""
        precision = self._plan[group.id]
        if group.id in self.refused:
            return f"the compiler refuses it in {self.refused[group.id]}"
        others = [p for p in self.result.ladder if group.allows(p) and p is not precision]
        if not others:
            return self._no_choice(group, precision)
        if precision.quantized:
            return self._lowered(group, precision)
        return self._kept(group, precision, self._preferred([p for p in others if p.quantized])[0])

    def _no_choice(self, group: LayerGroup, precision: Precision) -> str:
        """The reason that rules out what the group would otherwise run in."""
        top = self.grouping.top
        if not precision.quantized and precision is not top:
            return f"{group.excluded[top]}, so it runs in {precision.name}{self.last_resort(precision)}"
        formats = self._preferred([p for p in self.result.ladder if p.quantized])
        return next((group.excluded[p] for p in [*formats, top] if p in group.excluded), "nothing else to choose from")

    def last_resort(self, precision: Precision) -> str:
        """Why what FP16 cannot hold runs in FP32 and not in BF16, if it does."""
        lacks = self.grouping.top is Precision.FP16 and not self.target.supports(Precision.BF16)
        return f": {self.target.name} has no BF16" if precision is Precision.FP32 and lacks else ""

    def _lowered(self, group: LayerGroup, precision: Precision) -> str:
        widest = self.grouping.widest(group)
        more = self._change_ms(group, widest)
        saved_by = ", saved by refinement for exactly this plan" if group.id in self.rescued else ""
        standing = f"{self._standing(group, precision) or 'lowered'} to {precision}{saved_by}"
        # A group alone in another format pays for the conversions around it, so that what moves cost does not add up.
        if abs(more) <= self._nothing_ms:
            return f"alone in {widest} it would cost nothing; {standing}"
        cost = f"cost {_time(more)} more" if more > 0 else f"save {_time(-more)} at its boundaries"
        return f"alone in {widest} it would {cost}; {standing}"

    def _kept(self, group: LayerGroup, precision: Precision, wanted: Precision) -> str:
        moved = self._plan.replace({group.id: wanted})
        saved = -self._change_ms(group, wanted)
        if saved > self._nothing_ms:
            but = self._held_back_by(self._known(moved), group, wanted)
            return f"alone in {wanted} it would save {_time(saved)}, {but}"
        more = self._conversions(moved) - self._conversions(self._plan)
        if more > 0:
            conversions = "conversion" if more == 1 else "conversions"
            return f"{wanted} would need {more} more {conversions}, which cost what it saves or more"
        return f"{wanted} would not be faster"

    def _conversions(self, plan: PrecisionPlan) -> int:
        return sum(not reformat.fused for reformat in self.latency.reformats(plan))

    def _held_back_by(self, tried: Evaluation | None, group: LayerGroup, wanted: Precision) -> str:
        if tried is not None and not tried.feasible:
            return f"but then scores {self._scores_text(tried.score.value)}"
        standing = self._standing(group, wanted)
        return f"but is the {standing} to {wanted}" if standing else "but was not tried on its own"

    def _scores_text(self, score: float) -> str:
        scale = score_scale(self.metric, [score], self.required)
        return scale.text(score) + ("" if self.required is None else f", below {scale.text(self.required)}")

    def _known(self, plan: PrecisionPlan) -> Evaluation | None:
        return next((tried for tried in self.result.path if tried.plan == plan), None)

    def _change_ms(self, group: LayerGroup, to: Precision) -> float:
        """How much slower the plan is with `group` moved `to`."""
        return self.latency.plan_ms(self._plan.replace({group.id: to})) - self.result.chosen.latency_ms

    @property
    def _nothing_ms(self) -> float:
        return _NOTHING * self.result.chosen.latency_ms

    def _preferred(self, formats: list[Precision]) -> list[Precision]:
        """`formats`, those that the plan uses first."""
        return sorted(formats, key=lambda p: p not in self._plan.counts())

    def _standing(self, group: LayerGroup, precision: Precision) -> str:
        """Its place among the groups; empty where they were not ranked."""
        order = self.ranking.order(precision)
        if group.id not in order:
            return ""
        rank = order.index(group.id) + 1
        return f"{'' if rank == 1 else _ordinal(rank) + ' '}least sensitive of {len(order)}"


def mac_share(plan: PrecisionPlan, grouping: Grouping) -> float:
    """The share of all multiply-adds, those outside groups too, that run in 8 bit or less; 0 where there are none."""
    precisions = plan.as_dict()
    narrow = sum(g.flops for g in grouping.groups if precisions[g.id].spec.activations is not None)
    return narrow / max(1, grouping.flops)


def _time(milliseconds: float) -> str:
    """In µs like the latencies of groups that stand beside it."""
    return f"{significant(1000 * milliseconds)} µs"


def _ordinal(number: int) -> str:
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"
