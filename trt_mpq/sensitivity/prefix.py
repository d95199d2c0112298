"""What a network computes before a group, kept: copies in which only the group is perturbed run from there on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_ir as ir
from onnx_ir.convenience import extract

from trt_mpq.graph.control_flow import reads
from trt_mpq.runtime.base import size_of
from trt_mpq.workers.threads import side_by_side

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trt_mpq.dataset.chunks import Chunk
    from trt_mpq.runtime.base import Array, Arrays, Runtime, Session
    from trt_mpq.types import LayerGroup

_KEPT_BYTES = 1 << 28
"""Values that are kept for all samples together take no more than this."""


@dataclass(frozen=True)
class Rest:
    """A copy of the network, loaded from a place on.

    Attributes:
        session: What comes from there on.
        reads: Names of its inputs.
        outputs: Names of the network's outputs.
        kept: Per chunk of the samples the values that are known there; None at the beginning of the network.
        share: Of the multiply-adds of all groups, how much comes from there on.
        ways: How many chunks run best side by side.
    """

    session: Session
    reads: tuple[str, ...]
    outputs: tuple[str, ...]
    kept: Sequence[Arrays] | None
    share: float
    ways: int = 1

    def run(self, number: int, chunk: Chunk, others: Mapping[str, Array] | None = None) -> Arrays:
        """Every output of the network for chunk `number` of the samples, as `Chunk.run` has them.

        `others` feeds the inputs that are no samples.
        """
        known = self.kept[number] if self.kept else {}
        given = {**chunk.feeds, **known, **(others or {})}
        computed = known | self.session.run({name: given[name] for name in self.reads})
        return chunk.by_sample({name: computed[name] for name in self.outputs})


class Prefix:
    """Goes through a network from group to group with all samples, and remembers the values where it stands.

    It always stops at the same places, so that what is known there does not depend, to the last bit, on who asked for
    what before. Where the values are too many it does not stop.

    Args:
        graph: The network; none of its nodes is perturbed.
        groups: Before the first node of each it may stop.
        runtime: Runs it.
        chunks: The samples, the same whenever they are iterated over.
        ways: How many chunks are run side by side.
        limit: Bytes that the values at one place may take.
    """

    def __init__(
        self,
        graph: ir.Model,
        groups: Sequence[LayerGroup],
        runtime: Runtime,
        chunks: Iterable[Chunk],
        ways: int = 1,
        limit: int = _KEPT_BYTES,
    ) -> None:
        self._graph, self._runtime, self._chunks, self._ways, self._limit = graph, runtime, chunks, ways, limit
        self._nodes = tuple(graph.graph)
        places = {str(node.name): place for place, node in enumerate(self._nodes)}
        self._places = {group.id: min(places[name] for name in group.nodes) for group in groups}
        self._flops = {group.id: group.flops for group in groups}
        self._outputs = tuple(str(value.name) for value in graph.graph.outputs)
        ends = (place for place, node in enumerate(self._nodes) if any(v.is_graph_output() for v in node.outputs))
        last = max(ends, default=0)
        self._stops = sorted(place for place in set(self._places.values()) if 0 < place <= last)
        self._restart()

    def rest(self, groups: Iterable[str], copy: ir.Model) -> Rest:
        """What is left to compute of a copy in which nothing is perturbed but these groups and what follows them.

        It begins at the last place that is kept before all of them.

        Raises:
            RuntimeFailure: The copy does not load.
        """
        wanted = min((self._places[group] for group in groups), default=0)
        if self._place > wanted:
            self._restart()
        while self._ahead and self._ahead[0] <= wanted:
            self._advance(self._ahead.pop(0))
        after = sum(flops for group, flops in self._flops.items() if self._places[group] >= self._place)
        total = sum(self._flops.values())
        if self._kept is None:
            part = copy
        else:
            known = self._kept[0]
            own = [name for name in _inputs(copy) if name not in known]
            part = _part(copy, (*known, *own), [name for name in self._outputs if name not in known])
        share = after / total if total else 1.0
        session = self._runtime.load(part, ways=self._ways)
        return Rest(session, _inputs(part), self._outputs, self._kept, share, self._ways)

    def _restart(self) -> None:
        self._place, self._ahead = 0, list(self._stops)
        self._kept: list[Arrays] | None = None

    def _advance(self, place: int) -> None:
        """Compute what is alive before the node at `place` from what is known, unless that is too much to keep."""
        alive = self._alive(place)
        known = self._kept[0] if self._kept else {}
        given = tuple(known) or _inputs(self._graph)
        made = [name for name in alive if name not in given]
        if not made:
            return
        part = _part(self._graph, given, made)
        session, reads = self._runtime.load(part, ways=self._ways), _inputs(part)

        def there(numbered: tuple[int, Chunk]) -> Arrays:
            number, chunk = numbered
            values = self._kept[number] if self._kept else chunk.feeds
            computed = session.run({name: values[name] for name in reads})
            return {name: computed[name] if name in computed else values[name] for name in alive}

        kept: list[Arrays] = []
        size = 0
        with closing(side_by_side(there, enumerate(self._chunks), self._ways)) as found:
            for values in found:
                kept.append(values)
                size += size_of(values)
                if size > self._limit:
                    return
        self._place, self._kept = place, kept

    def _alive(self, place: int) -> tuple[str, ...]:
        """Names of the values that are there before the node at `place`, and that it, or what follows it, reads."""
        there = {value for node in self._nodes[:place] for value in node.outputs} | set(self._graph.graph.inputs)
        read = [value for node in self._nodes[place:] for value in reads(node)] + list(self._graph.graph.outputs)
        return tuple(dict.fromkeys(str(value.name) for value in read if value in there))


def _inputs(model: ir.Model) -> tuple[str, ...]:
    return tuple(str(value.name) for value in model.graph.inputs)


def _part(model: ir.Model, inputs: Sequence[str], outputs: Sequence[str]) -> ir.Model:
    """What computes `outputs` of a network from `inputs`; inputs that it does not need are left out."""
    graph = extract(model.graph, inputs=inputs, outputs=outputs)
    for value in list(graph.inputs):
        if not value.uses() and not value.is_graph_output():
            graph.inputs.remove(value)
    return ir.Model(graph, ir_version=model.ir_version, functions=list(model.functions.values()))
