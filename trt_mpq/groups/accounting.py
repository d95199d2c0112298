"""Where a network's multiply-adds are: in groups that may run in 8 bit, in groups that may not, outside of groups."""

from __future__ import annotations

from collections import defaultdict

from trt_mpq.graph.operators import CONTROL_FLOW
from trt_mpq.groups.exclusions import source_of
from trt_mpq.types import Grouping, LayerGroup, WorkShare


def exclusions_text(group: LayerGroup) -> str:
    """What a group may not run in and why, equal reasons together; empty if it may run in everything."""
    by_reason: dict[str, list[str]] = {}
    for precision, reason in group.excluded.items():
        by_reason.setdefault(reason, []).append(precision.value)
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in by_reason.items())


def rules_of(grouping: Grouping) -> tuple[str, ...]:
    """Where the rules are from that keep groups out of formats, each once; not what the model itself forbids."""
    reasons = (reason for group in grouping.groups for reason in group.excluded.values())
    return tuple(dict.fromkeys(source for reason in reasons if (source := source_of(reason)) is not None))


def account_for(grouping: Grouping) -> tuple[WorkShare, ...]:
    """All multiply-adds, by where they are and why: groups first, then what is outside, each from most to least."""
    flops: dict[tuple[bool, str], int] = defaultdict(int)
    for group in grouping.groups:
        flops[True, exclusions_text(group)] += group.flops
    for op in grouping.loose:
        if op.flops or op.op_type in CONTROL_FLOW:
            flops[False, f"{op.op_type}: {op.reason}"] += op.flops
    ordered = sorted(flops.items(), key=lambda item: (not item[0][0], item[0][1] != "", -item[1]))
    return tuple(
        WorkShare(grouped, reason, count // 2, count / max(1, grouping.flops)) for (grouped, reason), count in ordered
    )
