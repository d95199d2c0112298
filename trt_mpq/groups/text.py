"""A grouping as text, one line per fact, for golden files and for reading."""

from __future__ import annotations

from collections.abc import Mapping

from trt_mpq.types import Grouping, LayerGroup, LooseOp, Precision, Weight


def describe_groups(grouping: Grouping) -> str:
    """Groups in network order, then loose ops, then sets of tensors that share a scale."""
    lines = [
        *(_group_line(group) for group in grouping.groups),
        *(_loose_line(op) for op in grouping.loose),
        *(f"one scale: {', '.join(names)}" for names in grouping.shared_scales),
    ]
    return "\n".join(lines) + "\n"


def _group_line(group: LayerGroup) -> str:
    reads = ", ".join(f"{site.role} {site.tensor} at {site.node}:{site.index}" for site in group.inputs)
    anchors = {weight.node for weight in group.weights} or {group.id}
    followers = " + ".join(node for node in group.nodes if node not in anchors) or "nothing"
    operands = "; ".join(_weight(weight, group) for weight in group.weights)
    facts = (
        f"group {group.index} {group.id}: {group.op_type}{' ' if operands else ''}{operands}",
        f"reads {reads}",
        f"fuses {followers}",
        f"writes {_written(group)}",
        f"{group.flops} flops, {group.input_elements} in, {group.output_elements} out",
        _excluded(group.excluded),
    )
    return " | ".join(fact for fact in facts if fact)


def _weight(weight: Weight, group: LayerGroup) -> str:
    reader = f" at {weight.node}" if len(group.weights) > 1 else ""
    side = "" if weight.index else " on the left"
    return f"{weight.name}{list(weight.shape)}{side} per {_axis(weight.axis)}, bias {weight.bias or 'none'}{reader}"


def _written(group: LayerGroup) -> str:
    channels = ", ".join(f"axis {weight.channel_axis} of {weight.output}" for weight in group.weights)
    return ", ".join(group.writes) + (f" (channels on {channels})" if channels else "")


def _axis(axis: int | None) -> str:
    return "tensor" if axis is None else f"axis {axis}"


def _excluded(excluded: Mapping[Precision, str]) -> str:
    return "; ".join(f"not {precision}: {reason}" for precision, reason in excluded.items())


def _loose_line(op: LooseOp) -> str:
    reason = f" | {op.reason}" if op.reason else ""
    flops = f"{op.flops} flops, " if op.flops else ""
    return (
        f"loose {op.node}: {op.op_type} | reads {', '.join(op.inputs)} | writes {', '.join(op.writes)} | "
        f"{flops}{op.input_elements} in, {op.output_elements} out{reason}"
    )
