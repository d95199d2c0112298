"""Size of plans: what their parameters take."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import product

from trt_mpq.latency.dataflow import high_precision
from trt_mpq.search.costs import Choice, Costs, Term
from trt_mpq.types import Grouping, Precision, PrecisionPlan


def weight_bytes(plan: PrecisionPlan, grouping: Grouping, other_parameters: int) -> int:
    """Size of all parameters under `plan`, in bytes, as a file or an engine stores them, with scales of blocks only.

    Args:
        plan: Precision of every group.
        grouping: The groups, whose weights are stored in their precision, see `stored_bits`.
        other_parameters: Number of parameters outside the groups' weights, which are in high precision.
    """
    bits = sum(stored_bits(plan, grouping).values())
    return int(bits + other_parameters * high_precision(plan, grouping.top).spec.width + 7) // 8


def stored_bits(plan: PrecisionPlan, grouping: Grouping) -> dict[str, int]:
    """Group id to the bits of the weights that it is the first to store, in network order.

    A weight that several groups read is stored once in every precision that one of them runs in.
    """
    precisions, stored, bits = plan.as_dict(), set[tuple[str, Precision]](), {}
    for group in grouping.groups:
        own = {(weight.name, precisions[group.id]): weight.elements for weight in group.weights}
        bits[group.id] = int(sum(own[key] for key in own.keys() - stored) * precisions[group.id].spec.weight_width)
        stored |= own.keys()
    return bits


def size_costs(grouping: Grouping, other_parameters: int, options: Mapping[str, Sequence[Precision]]) -> Costs:
    """`weight_bytes` of every plan that takes its precisions from `options`, as terms; the all-FP32 plan aside."""
    elements = {weight.name: weight.elements for group in grouping.groups for weight in group.weights}
    storing: dict[tuple[str, Precision], dict[Choice, None]] = defaultdict(dict)
    for group in grouping.groups:
        for weight, precision in product(group.weights, options[group.id]):
            storing[weight.name, precision][group.id, precision] = None
    terms = (
        Term(elements[name] * p.spec.weight_width / 8, (tuple(choices),)) for (name, p), choices in storing.items()
    )
    return Costs(other_parameters * grouping.top.spec.width / 8, tuple(terms))
