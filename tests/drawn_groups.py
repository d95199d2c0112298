"""Networks drawn at random, for laws that hold for any."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from tests.fixtures_groups import make_group, make_grouping, make_loose
from trt_mpq.types import Grouping, Tie


@st.composite
def groupings(draw: st.DrawFn, most: int) -> Grouping:
    """Groups, some with two outputs, a shortcut or weights of others, between ops that compute or only move values."""
    tensors, groups, loose, tied = ["x"], [], [], []
    for _ in range(draw(st.integers(1, most))):
        reads = draw(st.lists(st.sampled_from(tensors), min_size=1, max_size=2, unique=True))
        if not groups or draw(st.integers(0, 2)):
            heavy = draw(st.sampled_from([10, 10**9]))
            group = make_group(
                f"g{len(groups)}", reads, index=len(groups), flops=heavy, input_elements=100 * len(reads)
            )
            if draw(st.booleans()):
                group = replace(group, writes={**group.writes, f"{group.id}.more": draw(st.sampled_from([10, 10**6]))})
            if groups and draw(st.booleans()):
                group = replace(group, weights=(*group.weights, *draw(st.sampled_from(groups)).weights))
            groups.append(group)
            tensors += group.writes
        else:
            op = make_loose(f"l{len(loose)}", reads)
            loose.append(op)
            apart = tuple(reads[1:]) if draw(st.booleans()) else ()
            tied += [Tie(op.node, (*reads, op.output), tuple(reads), apart)] if draw(st.booleans()) else []
            tensors.append(op.output)
    return make_grouping(groups, loose, tied)
