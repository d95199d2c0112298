"""Where the time of the shipped engine goes: its layers by what they are for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from trt_mpq.types import Precision
from trt_mpq.types.engine import Deployment

Purpose = Literal["groups", "reformats", "unfused Q/DQ", "other"]
"""What a layer is for; "groups" is what a plan decides on."""


@dataclass(frozen=True)
class LayerShare:
    """Time of one layer and what it is for; `precision` is None where it is unknown or no group's."""

    name: str
    ms: float
    purpose: Purpose
    groups: tuple[str, ...]
    precision: Precision | None


def layer_shares(deployment: Deployment) -> tuple[LayerShare, ...]:
    """The timed layers of the shipped engine in its order; empty if they were not timed or cannot be read back."""
    profile, realised = deployment.shipped_profile, deployment.realised
    if profile is None or realised is None:
        return ()
    overhead: dict[str, Purpose] = {
        **dict.fromkeys(realised.unfused, "unfused Q/DQ"),
        **dict.fromkeys(realised.reformats, "reformats"),
    }
    groups: dict[str, list[str]] = {}
    for group in realised.groups:
        for name in group.layers:
            groups.setdefault(name, []).append(group.group)
    precision = {group.group: group.realised for group in realised.groups}
    shares = []
    for layer in profile.layers:
        held = () if layer.name in overhead else tuple(groups.get(layer.name, ()))
        purpose: Purpose = overhead.get(layer.name, "groups" if held else "other")
        found = {precision[group] for group in held}
        shares.append(LayerShare(layer.name, layer.ms, purpose, held, found.pop() if len(found) == 1 else None))
    return tuple(shares)


def group_times(shares: tuple[LayerShare, ...]) -> dict[str, float]:
    """Milliseconds of each group that shares none of its layers with another group."""
    shared = {group for share in shares if len(share.groups) > 1 for group in share.groups}
    times: dict[str, float] = {}
    for share in shares:
        for group in set(share.groups) - shared:
            times[group] = times.get(group, 0.0) + share.ms
    return times


def time_split(shares: tuple[LayerShare, ...]) -> tuple[tuple[Purpose, float, float], ...]:
    """Milliseconds per purpose that occurs, and its share of their sum in 0..1."""
    total = sum(share.ms for share in shares)
    sums = {purpose: sum(share.ms for share in shares if share.purpose == purpose) for purpose in get_args(Purpose)}
    return tuple((purpose, ms, ms / total) for purpose, ms in sums.items() if ms > 0)
