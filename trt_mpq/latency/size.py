"""Size of plans: what their parameters take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trt_mpq.latency.dataflow import high_precision
from trt_mpq.search.costs import Costs, Term
from trt_mpq.types import Grouping, Precision, PrecisionPlan


def weight_bytes(plan: PrecisionPlan, grouping: Grouping, other_parameters: int) -> int:
    """Size of all parameters under `plan`, in bytes; scales are left out.

    Args:
        plan: Precision of every group.
        grouping: The groups, whose weights are stored in their precision.
        other_parameters: Number of parameters outside the groups' weights, which are in high precision.
    """
    precisions = plan.as_dict()
    bits = sum(group.weight_elements * precisions[group.id].bits for group in grouping.groups)
    return (bits + other_parameters * high_precision(plan, grouping.top).bits + 7) // 8


def size_costs(grouping: Grouping, other_parameters: int, options: Mapping[str, Sequence[Precision]]) -> Costs:
    """`weight_bytes` of every plan that takes its precisions from `options`, as terms; the all-FP32 plan aside."""
    terms = [
        Term(group.weight_elements * precision.bits / 8, (((group.id, precision),),))
        for group in grouping.groups
        for precision in options[group.id]
    ]
    return Costs(other_parameters * grouping.top.bits / 8, tuple(terms))
