"""A grouping as text, one line per fact, for golden files and for reading."""

from __future__ import annotations

from collections.abc import Mapping

from trt_mpq.types import Grouping, LayerGroup, LooseOp, Precision


def describe_groups(grouping: Grouping) -> str:
    """Groups in network order, then loose ops, then sets of tensors that share a scale."""
    lines = [
        *(_group_line(group) for group in grouping.groups),
        *(_loose_line(op) for op in grouping.loose),
        *(f"one scale: {', '.join(names)}" for names in grouping.shared_scales),
    ]
    return "\n".join(lines) + "\n"


def _group_line(group: LayerGroup) -> str:
    weight = f"{group.weight.name}{list(group.weight.shape)} per {_axis(group.weight.axis)}"
    reads = ", ".join(f"{site.role} {site.tensor} at {site.node}:{site.index}" for site in group.inputs)
    followers = " + ".join(group.nodes[1:]) or "nothing"
    facts = (
        f"group {group.index} {group.id}: {group.op_type} {weight}, bias {group.bias or 'none'}",
        f"reads {reads}",
        f"fuses {followers}",
        f"writes {group.output} (channels on axis {group.channel_axis} of {group.anchor_output})",
        f"{group.flops} flops, {group.input_elements} in, {group.output_elements} out",
        _excluded(group.excluded),
    )
    return " | ".join(fact for fact in facts if fact)


def _axis(axis: int | None) -> str:
    return "tensor" if axis is None else f"axis {axis}"


def _excluded(excluded: Mapping[Precision, str]) -> str:
    return "; ".join(f"not {precision}: {reason}" for precision, reason in excluded.items())


def _loose_line(op: LooseOp) -> str:
    return (
        f"loose {op.node}: {op.op_type} | reads {', '.join(op.inputs)} | writes {op.output} | "
        f"{op.input_elements} in, {op.output_elements} out"
    )
