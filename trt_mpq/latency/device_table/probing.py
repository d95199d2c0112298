"""Which engines to build to learn what a device charges: few, whatever the size of the model.

A uniform engine shows every group among neighbours of its own format. Two engines that alternate along the network
show every group beside another format, and between them every group in both. Together they tell groups from
boundaries, and the alternating ones check that costs add up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trt_mpq.errors import SettingsError
from trt_mpq.types import Grouping, Precision, PrecisionPlan

ProbingPlan = tuple[str, PrecisionPlan]


def probing_plans(
    grouping: Grouping, precisions: Sequence[Precision], *, mix_formats: bool = False
) -> tuple[ProbingPlan, ...]:
    """Names and plans of the engines to probe, each plan once, that in high precision first.

    Args:
        grouping: All groups, and their high precision.
        precisions: What the table has to know. The high precision is always among it; FP32 adds a uniform engine only.
        mix_formats: Whether to alternate 8-bit formats with each other as well, where TensorRT allows that.

    Returns:
        At most one plan for the high precision and FP32 each, three per 8-bit format, one per pair of formats if mixed.

    Raises:
        SettingsError: TensorRT has no kernels for one of `precisions`.
    """
    for precision in precisions:
        if not precision.deployable:
            raise SettingsError(f"{precision} cannot be measured, TensorRT has no kernels for it: leave it out")
    named: dict[PrecisionPlan, str] = {}
    for name, plan in _candidates(grouping, precisions, mix_formats):
        named.setdefault(plan, name)
    return tuple((name, plan) for plan, name in named.items())


def _candidates(grouping: Grouping, precisions: Sequence[Precision], mix_formats: bool) -> Iterator[ProbingPlan]:
    formats = [precision for precision in Precision if precision in precisions and precision.quantized]
    uniform = {p: grouping.uniform(p) for p in Precision}
    high = uniform[grouping.top]
    yield grouping.top.value, high
    if Precision.FP32 in precisions:
        yield Precision.FP32.value, uniform[Precision.FP32]
    for precision in formats:
        yield precision.value, uniform[precision]
        yield f"{precision}-even", _alternated(uniform[precision], high)
        yield f"{precision}-odd", _alternated(high, uniform[precision])
    if mix_formats:
        for i, first in enumerate(formats):
            for second in formats[i + 1 :]:
                yield f"{first}-{second}", _alternated(uniform[first], uniform[second])


def _alternated(even: PrecisionPlan, odd: PrecisionPlan) -> PrecisionPlan:
    """Groups of `even` and `odd` in turns; where both plans agree there is nothing to alternate."""
    pairs = zip(even.assignments, odd.assignments, strict=True)
    chosen, turn = [], 0
    for one, other in pairs:
        chosen.append(other if turn % 2 else one)
        turn += one != other
    return PrecisionPlan(tuple(chosen))
