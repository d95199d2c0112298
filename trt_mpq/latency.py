"""Modelled latency: a roofline per group, plus what it costs to cross precision boundaries.

A group is one kernel. Its time is the larger of arithmetic and memory traffic (Williams, Waterman and
Patterson, "Roofline", CACM 52(4), 2009), plus a fixed launch cost. Absolute numbers are rough; what the
model is for is the order of plans, so it counts the things that make a plan slower than its arithmetic
suggests. Peak rates and efficiencies come from the `Target`; nothing here was measured.

Which format a tensor is stored in follows from what TensorRT can fuse and from what the typed graph says:

- A Q that follows a convolution fuses into its epilogue only if the kernel already computes in that 8-bit
  format and nobody reads the unquantized value. So a tensor is stored in 8 bit if its producer and **all** its
  readers run in that format; otherwise it is stored in the producer's high precision (FP32 for FP32 groups
  and network inputs, FP16 for the rest).
- Q/DQ commute with ops that only move or select values. `Grouping.shared_scales` says which tensors are
  tied by such ops (Concat, MaxPool, Reshape); tied tensors are stored alike, so the rule above is asked of all
  their producers and readers together.
- Whoever reads a tensor in another format than the stored one needs a kernel that converts it (quantize, cast):
  read, write, launch. The result is shared, so it is paid once per tensor and format and charged to the first
  group that asks.
- An op outside every group streams its inputs and output in the high precision, in a kernel of its own; a view
  costs nothing and is the tensor it looks at. The high precision is FP16, or FP32 if no group runs in less.

Not modelled: fusion of neighbouring pointwise ops, kernels that do not exist for a shape, caches, clocks, and the
casts that every plan pays alike (network outputs, and network inputs that only a loose op reads).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from trt_mpq.errors import SettingsError
from trt_mpq.types import Grouping, LayerGroup, LooseOp, Precision, PrecisionPlan, Target

_VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"})


@dataclass(frozen=True)
class Reformat:
    """A kernel that converts `tensor` (of `elements` per sample) because `reader` wants another format."""

    tensor: str
    elements: int
    stored: Precision
    wanted: Precision
    reader: str


class LatencyModel:
    """Modelled time of one inference of a batch.

    Args:
        grouping: Groups and loose ops of the model.
        target: The GPU.
        batch: Samples per inference.

    Raises:
        SettingsError: `batch` is less than 1.
    """

    source = "modelled"

    def __init__(self, grouping: Grouping, target: Target, batch: int) -> None:
        if batch < 1:
            raise SettingsError(f"the batch must hold at least 1 sample, got {batch}")
        self._groups = tuple(group.id for group in grouping.groups)
        self._target = target
        self._batch = batch
        self._flow = _Dataflow(grouping)

    def plan_ms(self, plan: PrecisionPlan) -> float:
        """Milliseconds for one batch under `plan`: groups, conversions and loose ops.

        Raises:
            SettingsError: The GPU has no arithmetic for a precision of `plan`.
        """
        return sum(ms for _, ms in self._charges(plan))

    def group_ms(self, plan: PrecisionPlan) -> dict[str, float]:
        """Milliseconds per group id, in network order, with the conversions charged to that group.

        Raises:
            SettingsError: The GPU has no arithmetic for a precision of `plan`.
        """
        times = dict.fromkeys(self._groups, 0.0)
        for name, ms in self._charges(plan):
            if name in times:
                times[name] += ms
        return times

    def reformats(self, plan: PrecisionPlan) -> tuple[Reformat, ...]:
        """The conversion kernels `plan` needs; those charged to groups come first, in network order."""
        return self._flow.reformats(self._flow.formats(plan))

    def _charges(self, plan: PrecisionPlan) -> Iterator[tuple[str, float]]:
        """Every kernel that runs: the group or loose op it is charged to, and its milliseconds."""
        for precision in plan.counts():
            _require_support(self._target, precision)
        formats = self._flow.formats(plan)
        for kernel in self._flow.kernels:
            yield kernel.name, self._kernel_ms(kernel, formats)
        for reformat in self._flow.reformats(formats):
            bits = reformat.elements * (reformat.stored.bits + reformat.wanted.bits)
            yield reformat.reader, self._stream_ms(bits) + self._launch_ms

    def _kernel_ms(self, kernel: _Kernel, formats: _Formats) -> float:
        precision, written = formats.computed[kernel.name], formats.stored[kernel.writes]
        bits = kernel.input_elements * precision.bits + kernel.output_elements * written.bits
        memory_ms = self._stream_ms(bits, once=kernel.weights * precision.bits)
        rate = self._target.peak_tops[_arithmetic(precision)] * 1e12 * self._target.compute_efficiency
        return max(kernel.flops * self._batch / rate * 1e3, memory_ms) + self._launch_ms

    def _stream_ms(self, bits: int, once: int = 0) -> float:
        """Time to move `bits` for every sample and `once` more for the whole batch."""
        rate = self._target.bandwidth_gb_s * 1e9 * self._target.memory_efficiency
        return (bits * self._batch + once) / 8 / rate * 1e3

    @property
    def _launch_ms(self) -> float:
        return self._target.launch_us / 1e3


def weight_bytes(plan: PrecisionPlan, grouping: Grouping, other_parameters: int) -> int:
    """Size of all parameters under `plan`, in bytes; scales are left out.

    Args:
        plan: Precision of every group.
        grouping: The groups, whose weights are stored in their precision.
        other_parameters: Number of parameters outside the groups' weights: FP16, or FP32 in an all-FP32 plan.
    """
    precisions = plan.as_dict()
    bits = sum(group.weight.elements * precisions[group.id].bits for group in grouping.groups)
    return (bits + other_parameters * _high_precision(plan).bits + 7) // 8


def _high_precision(plan: PrecisionPlan) -> Precision:
    return Precision.FP32 if set(plan.counts()) == {Precision.FP32} else Precision.FP16


def _arithmetic(precision: Precision) -> Precision:
    """Format whose kernels compute `precision`.

    INT4 activations are hypothetical: TensorRT has no such kernels. The study ladder models them at the INT8
    rate with half the bytes, on every GPU that has INT8.
    """
    return Precision.INT8 if precision is Precision.INT4 else precision


def _require_support(target: Target, precision: Precision) -> None:
    if not target.supports(_arithmetic(precision)):
        raise SettingsError(
            f"{target.name} (SM {target.sm}) cannot compute in {precision}: "
            f"choose --precisions from {', '.join(target.peak_tops)}, or another --device"
        )


@dataclass(frozen=True)
class _Kernel:
    """A group or a loose op: it reads tensors and writes one. Counts are for one sample."""

    name: str
    reads: tuple[str, ...]
    writes: str
    input_elements: int
    output_elements: int
    flops: int = 0
    weights: int = 0

    @classmethod
    def of_group(cls, group: LayerGroup) -> _Kernel:
        reads = tuple(read.tensor for read in group.inputs)
        sizes = group.input_elements, group.output_elements, group.flops, group.weight.elements
        return cls(group.id, reads, group.output, *sizes)

    @classmethod
    def of_loose(cls, op: LooseOp) -> _Kernel:
        return cls(op.node, op.inputs, op.output, op.input_elements, op.output_elements)


@dataclass(frozen=True)
class _Formats:
    """What a plan means: the format every kernel computes in and every tensor is stored in."""

    computed: Mapping[str, Precision]
    stored: Mapping[str, Precision]


class _Dataflow:
    """Kernels and the tensors between them, with views replaced by the tensor they look at."""

    def __init__(self, grouping: Grouping) -> None:
        views = {op.output: op.inputs[0] for op in grouping.loose if op.op_type in _VIEWS and op.inputs}
        tied = [[_viewed(tensor, views) for tensor in names] for names in grouping.shared_scales]
        groups = [_without_views(_Kernel.of_group(group), views) for group in grouping.groups]
        loose = [_without_views(_Kernel.of_loose(op), views) for op in grouping.loose if op.output not in views]
        # What else a loose op reads is a constant, or a network input whose cast every plan pays alike.
        known = {kernel.writes for kernel in (*groups, *loose)}.union(*tied, *(group.reads for group in groups))
        loose = [replace(kernel, reads=tuple(t for t in kernel.reads if t in known)) for kernel in loose]
        self.kernels = (*groups, *loose)
        self._writer = {kernel.writes: kernel for kernel in self.kernels}
        self._readers: dict[str, list[_Kernel]] = defaultdict(list)
        for kernel in self.kernels:
            for tensor in dict.fromkeys(kernel.reads):
                self._readers[tensor].append(kernel)
        self._leader = _leaders({*self._writer, *self._readers}, tied)
        # A loose op whose operands share one scale only moves values, so it runs in whatever format they have.
        self._moving = {kernel.name for kernel in loose if kernel.reads and self._tied_to_one_scale(kernel)}

    def formats(self, plan: PrecisionPlan) -> _Formats:
        """Formats under `plan`, by the rules of the module docstring."""
        precisions, high = plan.as_dict(), _high_precision(plan)
        computed = {kernel.name: precisions.get(kernel.name, high) for kernel in self.kernels}
        native = {tensor: self._native(tensor, computed) for tensor in self._leader}
        involved: dict[str, set[Precision]] = defaultdict(set)
        for tensor, leader in self._leader.items():
            involved[leader] |= self._involved(tensor, computed, native)
        stored = {tensor: _common(involved[leader], native[tensor]) for tensor, leader in self._leader.items()}
        moved = {kernel.name: stored[kernel.writes] for kernel in self.kernels if kernel.name in self._moving}
        return _Formats({**computed, **moved}, stored)

    def reformats(self, formats: _Formats) -> tuple[Reformat, ...]:
        """Conversions in the order their readers run, once per tensor and format."""
        needed: dict[tuple[str, Precision], Reformat] = {}
        for kernel in self.kernels:
            wanted = formats.computed[kernel.name]
            for tensor in kernel.reads:
                stored = formats.stored[tensor]
                if stored is not wanted and (tensor, wanted) not in needed:
                    needed[tensor, wanted] = Reformat(tensor, self._elements(tensor), stored, wanted, kernel.name)
        return tuple(needed.values())

    def _native(self, tensor: str, computed: Mapping[str, Precision]) -> Precision:
        """Format the tensor is written in when its producer may not write 8 bit."""
        if tensor not in self._writer or computed[self._writer[tensor].name] is Precision.FP32:
            return Precision.FP32
        return Precision.FP16

    def _involved(
        self, tensor: str, computed: Mapping[str, Precision], native: Mapping[str, Precision]
    ) -> set[Precision]:
        """Formats that the producer and the readers of `tensor` compute in."""
        readers = self._readers.get(tensor, [])
        kernels = [*readers, self._writer[tensor]] if tensor in self._writer else readers
        formats = {computed[kernel.name] for kernel in kernels if kernel.name not in self._moving}
        crosses_the_border = tensor not in self._writer or not readers
        return formats | {native[tensor]} if crosses_the_border else formats

    def _elements(self, tensor: str) -> int:
        """Elements per sample; a network input has what the other operands of its first reader leave."""
        if tensor in self._writer:
            return self._writer[tensor].output_elements
        reader = self._readers[tensor][0]
        known = sum(self._writer[other].output_elements for other in reader.reads if other in self._writer)
        return (reader.input_elements - known) // sum(other not in self._writer for other in reader.reads)

    def _tied_to_one_scale(self, kernel: _Kernel) -> bool:
        return len({self._leader[tensor] for tensor in (kernel.writes, *kernel.reads)}) == 1


def _viewed(tensor: str, views: Mapping[str, str]) -> str:
    while tensor in views:
        tensor = views[tensor]
    return tensor


def _without_views(kernel: _Kernel, views: Mapping[str, str]) -> _Kernel:
    return replace(kernel, reads=tuple(_viewed(tensor, views) for tensor in kernel.reads))


def _common(formats: set[Precision], otherwise: Precision) -> Precision:
    """The one 8-bit format in `formats`, or `otherwise` if there are others."""
    only = next(iter(formats))
    return only if len(formats) == 1 and only.quantized else otherwise


def _leaders(tensors: Iterable[str], tied: Iterable[list[str]]) -> dict[str, str]:
    """One representative per set of tied tensors; a tensor that is tied to none represents itself."""
    leader = {tensor: tensor for tensor in sorted(tensors)}
    for names in tied:
        merged = {leader[name] for name in names if name in leader}
        leader.update({tensor: min(merged) for tensor, old in leader.items() if old in merged})
    return leader
