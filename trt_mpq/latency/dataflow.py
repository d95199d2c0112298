"""What a plan means for the tensors between kernels: the format each is stored in, and where one is converted.

Both latencies, modelled and measured, count the boundaries of a plan by these rules:

- A Q that follows a convolution fuses into its epilogue only if the kernel already computes in that 8-bit
  format and nobody reads the unquantized value. So a tensor is stored in 8 bit if its producer and **all** its
  readers run in that format; otherwise it is stored in the producer's high precision (its own if it is no 8-bit
  group, FP32 for network inputs, the network's for the rest).
- Q/DQ commute with ops that only move or select values. `Grouping.shared_scales` says which tensors are
  tied by such ops (Concat, MaxPool, Reshape); tied tensors are stored alike, so the rule above is asked of all
  their producers and readers together.
- Whoever reads a tensor in another format than the stored one needs a kernel that converts it (quantize, cast):
  read, write, launch. The result is shared, so it is paid once per tensor and format and charged to the first
  group that asks. What a normalization, a Softmax or pointwise arithmetic writes, its own kernel writes in the other
  format too: one more write (`bench/results/fusions.md`). Blocks with scales that come with the values (NVFP4) are
  always quantized by a kernel of their own.
- An operand of a Concat that has a scale of its own (`Tie.apart`) is stored as its writer and its other readers want;
  a kernel of its own converts it for the Concat, also from one 8-bit scale to another.
- An op outside every group works in the network's high precision; which are kernels of their own says `kernels.py`. A
  view costs nothing and is the tensor it looks at. That precision is `Grouping.top` (FP16 or BF16), its refuge where
  the op may not run in that, or FP32 if no group runs in less.

Not counted: the casts that every plan pays alike (network outputs, and network inputs that only a loose op reads).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from trt_mpq.graph.operators import VIEWS
from trt_mpq.latency.kernels import FUSED, GENERATED, Kernel, Reformat, together
from trt_mpq.types import Grouping, LayerGroup, Precision, PrecisionPlan

_VIEWS = VIEWS | {"Identity"}
"""An Identity is left in a prepared graph only between an input and an output."""


def high_precision(plan: PrecisionPlan, top: Precision) -> Precision:
    """What ops outside every group compute in: the network's high precision `top`, or FP32 in an all-FP32 plan."""
    return Precision.FP32 if set(plan.counts()) == {Precision.FP32} else top


@dataclass(frozen=True)
class Formats:
    """What a plan means: the format every kernel computes in and every tensor is stored in."""

    computed: Mapping[str, Precision]
    stored: Mapping[str, Precision]

    def widens(self, group: LayerGroup) -> bool:
        """Whether `group` runs in 8 bit or less and writes an output in a higher precision, at a boundary."""
        computed = self.computed[group.id]
        return computed.spec.between_kernels and any(self.stored[tensor] is not computed for tensor in group.writes)


class Dataflow:
    """Kernels and the tensors between them, with views replaced by the tensor they look at."""

    def __init__(self, grouping: Grouping) -> None:
        views = {op.output: op.inputs[0] for op in grouping.loose if op.op_type in _VIEWS and op.inputs}
        tied = [[_viewed(tensor, views) for tensor in names] for names in grouping.shared_scales]
        groups = [_without_views(Kernel.of_group(group), views) for group in grouping.groups]
        loose = [_without_views(Kernel.of_loose(op), views) for op in grouping.loose if op.output not in views]
        # What else a loose op reads is a constant, or a network input whose cast every plan pays alike.
        written = (kernel.writes for kernel in (*groups, *loose))
        known = set().union(*written, *tied, *(group.reads for group in groups))
        loose = [replace(kernel, reads=tuple(t for t in kernel.reads if t in known)) for kernel in loose]
        self.top = grouping.top
        self._refuge = {op.node: grouping.widest(op) for op in grouping.loose if not op.allows(grouping.top)}
        fusible = {op.node for op in grouping.loose if op.op_type in FUSED and op.node not in self._refuge}
        self.kernels = together((*groups, *loose), frozenset(fusible))
        self.groups = frozenset(group.id for group in grouping.groups)
        self._writer = {tensor: kernel for kernel in self.kernels for tensor in kernel.writes}
        self._leader = _leaders({*self._writer, *(tensor for kernel in self.kernels for tensor in kernel.reads)}, tied)
        self._apart = {tie.node: frozenset(_viewed(tensor, views) for tensor in tie.apart) for tie in grouping.ties}
        # A loose op whose operands share one scale only moves values, so it runs in whatever format they have.
        self._moving = {
            kernel.name
            for kernel in self.kernels
            if kernel.name not in self.groups
            and kernel.reads
            and kernel.name not in self._refuge
            and self._tied_to_one_scale(kernel)
        }

        both = {op.node for op in grouping.loose if op.op_type in GENERATED} - self._moving
        self._written_twice = {tensor for kernel in loose if kernel.name in both for tensor in kernel.writes}
        self._readers: dict[str, list[Kernel]] = defaultdict(list)
        for kernel in self.kernels:
            for tensor in dict.fromkeys(kernel.reads):
                if not self._is_requantized(kernel, tensor):
                    self._readers[tensor].append(kernel)

    @property
    def tensors(self) -> tuple[str, ...]:
        """Tensors between kernels, and those that cross the network's border."""
        return tuple(self._leader)

    def tie(self, tensor: str) -> str:
        """Name of the set of tensors that are stored alike with `tensor`."""
        return self._leader[tensor]

    def writer(self, tensor: str) -> str | None:
        """The kernel that writes `tensor`; None for network inputs."""
        return self._writer[tensor].name if tensor in self._writer else None

    def readers(self, tensor: str) -> tuple[str, ...]:
        """The kernels that read `tensor`."""
        return tuple(kernel.name for kernel in self._readers.get(tensor, ()))

    @property
    def requantized(self) -> tuple[tuple[Kernel, str], ...]:
        """The Concats and those of their operands that have a scale of their own."""
        return tuple((k, tensor) for k in self.kernels for tensor in k.reads if self._is_requantized(k, tensor))

    def moves(self, kernel: str) -> bool:
        """Whether `kernel` is a loose op that only moves values, in whatever format they have."""
        return kernel in self._moving

    def high(self, kernel: str, network: Precision) -> Precision:
        """What the loose op `kernel` computes in, where the `network`'s ops outside groups compute in that."""
        return network if network is Precision.FP32 else self._refuge.get(kernel, network)

    def unanimous(self) -> dict[str, frozenset[str]]:
        """Tie to the groups that must all run in one 8-bit format for its tensors to be stored in that.

        Ties that never are, because a tensor crosses the network's border or a loose op computes with it, are absent.
        """
        touching: dict[str, set[str]] = defaultdict(set)
        barred: set[str] = set()
        for tensor, tie in self._leader.items():
            writer, readers = self.writer(tensor), self.readers(tensor)
            if writer is None or not readers:
                barred.add(tie)
            touching[tie] |= {name for name in (writer, *readers) if name and name not in self._moving}
        return {tie: frozenset(names) for tie, names in touching.items() if tie not in barred and names <= self.groups}

    def elements(self, tensor: str) -> int:
        """Elements per sample; a network input has what the other operands of its first reader leave."""
        if tensor in self._writer:
            return self._writer[tensor].writes[tensor]
        reader = self._readers[tensor][0]
        known = sum(self._writer[other].writes[other] for other in reader.reads if other in self._writer)
        return (reader.input_elements - known) // sum(other not in self._writer for other in reader.reads)

    def formats(self, plan: PrecisionPlan) -> Formats:
        """Formats under `plan`, by the rules of the module docstring."""
        precisions, network = plan.as_dict(), high_precision(plan, self.top)
        computed = {
            kernel.name: precisions.get(kernel.name) or self.high(kernel.name, network) for kernel in self.kernels
        }
        native = {tensor: self._native(tensor, computed) for tensor in self._leader}
        involved: dict[str, set[Precision]] = defaultdict(set)
        for tensor, leader in self._leader.items():
            involved[leader] |= self._involved(tensor, computed, native)
        stored = {tensor: _common(involved[leader], native[tensor]) for tensor, leader in self._leader.items()}
        moved = {k.name: stored[next(iter(k.writes))] for k in self.kernels if k.name in self._moving}
        return Formats({**computed, **moved}, stored)

    def reformats(self, formats: Formats) -> tuple[Reformat, ...]:
        """Conversions in the order their readers run, once per tensor and format."""
        needed: dict[tuple[str, ...], Reformat] = {}
        for kernel in self.kernels:
            wanted = formats.computed[kernel.name].read_in(self.top)
            for tensor in kernel.reads:
                stored, own = formats.stored[tensor], self._is_requantized(kernel, tensor)
                key = (tensor, wanted, kernel.name if own else "")
                if (stored is not wanted or (own and wanted.quantized)) and key not in needed:
                    needed[key] = self.reformat(tensor, stored, wanted, kernel.name)
        return tuple(needed.values())

    def reformat(self, tensor: str, stored: Precision, wanted: Precision, reader: str) -> Reformat:
        """The conversion of a tensor that is `stored` in one format and read in another."""
        as_it_comes = wanted.quantized and not wanted.spec.between_kernels
        fused = tensor in self._written_twice and not as_it_comes
        return Reformat(tensor, self.elements(tensor), stored, wanted, reader, fused)

    def _native(self, tensor: str, computed: Mapping[str, Precision]) -> Precision:
        """Format the tensor is written in when its producer may not write 8 bit."""
        if tensor not in self._writer:
            return Precision.FP32
        own = computed[self._writer[tensor].name]
        return self.top if own.quantized else own

    def _involved(
        self, tensor: str, computed: Mapping[str, Precision], native: Mapping[str, Precision]
    ) -> set[Precision]:
        """Formats that the producer and the readers of `tensor` compute in."""
        readers = self._readers.get(tensor, [])
        kernels = [*readers, self._writer[tensor]] if tensor in self._writer else readers
        formats = {computed[kernel.name].read_in(self.top) for kernel in kernels if kernel.name not in self._moving}
        crosses_the_border = tensor not in self._writer or not readers
        return formats | {native[tensor]} if crosses_the_border else formats

    def _tied_to_one_scale(self, kernel: Kernel) -> bool:
        tied = (tensor for tensor in kernel.reads if tensor not in self._apart.get(kernel.name, ()))
        return len({self._leader[tensor] for tensor in (*kernel.writes, *tied)}) == 1

    def _is_requantized(self, kernel: Kernel, tensor: str) -> bool:
        """Whether a kernel converts `tensor` for the Concat `kernel` from another scale, if it has one."""
        return kernel.name in self._moving and tensor in self._apart.get(kernel.name, ())


def _viewed(tensor: str, views: Mapping[str, str]) -> str:
    while tensor in views:
        tensor = views[tensor]
    return tensor


def _without_views(kernel: Kernel, views: Mapping[str, str]) -> Kernel:
    return replace(kernel, reads=tuple(dict.fromkeys(_viewed(tensor, views) for tensor in kernel.reads)))


def _common(formats: set[Precision], otherwise: Precision) -> Precision:
    """The one 8-bit format in `formats`, or `otherwise` if there are others."""
    only = next(iter(formats))
    return only if len(formats) == 1 and only.spec.between_kernels else otherwise


def _leaders(tensors: Iterable[str], tied: Iterable[list[str]]) -> dict[str, str]:
    """One representative per set of tied tensors; a tensor that is tied to none represents itself."""
    leader = {tensor: tensor for tensor in sorted(tensors)}
    for names in tied:
        merged = {leader[name] for name in names if name in leader}
        leader.update({tensor: min(merged) for tensor, old in leader.items() if old in merged})
    return leader
