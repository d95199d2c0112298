"""Which operands of a Concat keep a scale of their own.

One scale for all that a Concat joins costs no kernel, and costs resolution wherever ranges differ: a skip connection
that is joined with a branch k times as large is quantized k times as coarsely, 20 log10(k) dB, for everyone who reads
it. A scale of its own costs a requantization in front of the Concat instead. Which is better, plans have to show
(`pipeline.own_scales`); where they cannot, it is a scale of its own from `OWN_SCALE_RATIO` on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from trt_mpq.types import Grouping, Ranges, Tie
from trt_mpq.types.ties import tied_sets


def with_own_scales(grouping: Grouping, ranges: Ranges, ratio: float) -> Grouping:
    """The grouping in which operands of Concats are apart that are more than `ratio` times smaller than what they join.

    Only those that a group quantizes: others have no use for a scale.

    Args:
        grouping: Groups and ties.
        ranges: Observed extremes of every tensor, and the formats there are.
        ratio: Of the largest magnitudes.
    """
    smaller = {(tie.node, name): times for tie, name, times in smaller_operands(grouping, ranges)}

    def apart(tie: Tie) -> tuple[str, ...]:
        return tuple(name for name in tie.operands if smaller.get((tie.node, name), 0.0) > ratio)

    return replace(grouping, ties=tuple(replace(tie, apart=apart(tie)) for tie in grouping.ties))


def smaller_operands(grouping: Grouping, ranges: Ranges) -> Iterator[tuple[Tie, str, float]]:
    """Concats with operands to which a scale of their own is of use, and how many times smaller those are.

    Whether they have one already makes no difference.
    """
    # Steps of floating-point codes grow with the value, so that a scale a hundred times too large costs nothing.
    if not any(precision.codes.even for precision in ranges.methods):
        return
    whole = _magnitudes([replace(tie, apart=()) for tie in grouping.ties], ranges)
    pieces = [replace(tie, apart=tie.operands) for tie in grouping.ties]
    alone, used = _magnitudes(pieces, ranges), _used(pieces, grouping)
    for tie in grouping.ties:
        for name in tie.operands:
            if name in used and 0 < alone[name] < whole[tie.tensors[-1]]:
                yield tie, name, whole[tie.tensors[-1]] / alone[name]


def _magnitudes(ties: Iterable[Tie], ranges: Ranges) -> Mapping[str, float]:
    """Tensor to the largest magnitude among all that it shares a scale with."""
    return {
        name: largest
        for names in tied_sets(ties)
        for largest in [max((ranges.tensors[n].magnitude for n in names if n in ranges.tensors), default=0.0)]
        for name in names
    }


def _used(ties: Iterable[Tie], grouping: Grouping) -> frozenset[str]:
    """The tensors whose scale, shared by `ties` only, some group quantizes with."""
    wanted = grouping.quantized
    return frozenset(name for names in tied_sets(ties) if not wanted.isdisjoint(names) for name in names)
