"""An engine that computes something else than its reference, bisected until the groups that cause it are named."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from trt_mpq.types import Comparison, Precision, PrecisionPlan


@dataclass(frozen=True)
class Bisection:
    """What the engine of a plan computes, and whose fault it is.

    Attributes:
        plan: The plan.
        before: Its engine against its reference, which ONNX Runtime runs.
        engines: Engines that were built to find out.
        at_fault: Groups that have to leave their precision, and that precision; empty if nothing is wrong, or no group
            is at fault.
        after: The engine with those groups in high precision against its own reference; None without any.
        finding: All that in a sentence.
    """

    plan: PrecisionPlan
    before: Comparison
    engines: int
    at_fault: Mapping[str, Precision]
    after: Comparison | None
    finding: str


def bisect(plan: PrecisionPlan, high: PrecisionPlan, compare: Callable[[PrecisionPlan], Comparison]) -> Bisection:
    """Find the groups for whose sake the engine of `plan` fails its comparison, and try it without them.

    Args:
        plan: The plan.
        high: Every group in high precision.
        compare: Builds the engine of a plan and compares it with the reference of the same plan.
    """
    compared = _Counted(compare)
    before, lowered = compared(plan), [group for group, precision in plan.assignments if precision.quantized]
    if not before.failed:
        return Bisection(plan, before, compared.engines, {}, None, "the engine computes what its reference does")

    def lowering(groups: Collection[str]) -> PrecisionPlan:
        return plan.replace({group: high[group] for group in lowered if group not in groups})

    if not lowered or compared(lowering(())).failed:
        finding = "the engine is as far from its reference with every group in high precision: no group is at fault"
        return Bisection(plan, before, compared.engines, {}, None, finding)
    found = groups_at_fault(lowered, lambda groups: not compared(lowering(groups)).failed)
    after = compared(lowering(set(lowered) - set(found)))
    finding = f"the engine computes what its reference does with {', '.join(found)} in high precision, and not without"
    return Bisection(plan, before, compared.engines, {group: plan[group] for group in found}, after, finding)


class _Counted:
    def __init__(self, compare: Callable[[PrecisionPlan], Comparison]) -> None:
        self._compare, self._known = compare, dict[PrecisionPlan, Comparison]()

    @property
    def engines(self) -> int:
        return len(self._known)

    def __call__(self, plan: PrecisionPlan) -> Comparison:
        if plan not in self._known:
            self._known[plan] = self._compare(plan)
        return self._known[plan]


def groups_at_fault(groups: Sequence[str], passes: Callable[[Collection[str]], bool]) -> list[str]:
    """Groups without which the rest passes, found by halves: k of n take about k log n questions.

    None of them can be given back beside the rest: where several are only wrong together, one of them is enough.

    Args:
        groups: They do not pass together.
        passes: Whether exactly those groups pass; none of them does.
    """
    return _at_fault(list(groups), [], passes)


def _at_fault(groups: list[str], kept: list[str], passes: Callable[[Collection[str]], bool]) -> list[str]:
    """Those of `groups` to be left out beside `kept`, which passes alone and does not with all of them."""
    if len(groups) == 1:
        return groups
    left, right = groups[: len(groups) // 2], groups[len(groups) // 2 :]
    found = [] if passes([*kept, *left]) else _at_fault(left, kept, passes)
    kept = [*kept, *(group for group in left if group not in found)]
    if not found or not passes([*kept, *right]):  # where the left was no trouble, the right is
        found = [*found, *_at_fault(right, kept, passes)]
    return found
