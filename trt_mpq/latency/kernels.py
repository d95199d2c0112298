"""What runs: a group or what is outside every group, as kernels, and the conversions between them.

An operator outside every group need not be a kernel of its own. What becomes of it (`bench/results/fusions.md`):

- A Transpose, Slice, Split, Expand or Concat disappears into the kernels beside it, which write where it is read.
- Pointwise arithmetic, normalizations and softmaxes that follow each other are one kernel: the Add and LayerNorm
  behind attention, a LayerNorm that an exporter spelled out, the gate and product of a gated linear unit.
- A function of one tensor that nobody else reads is the epilogue of what writes that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from trt_mpq.graph.operators import ACTIVATIONS
from trt_mpq.types import LayerGroup, LooseOp, Precision

KernelKind = Literal["product", "depthwise", "attention", "pointwise", "other", "none"]
"""What a kernel spends its time on: products in tensor cores, one product per channel, attention, arithmetic on single
values, something else; or nothing, because those beside it do its work."""

_MOVED = frozenset({"Transpose", "Slice", "Split", "Expand", "Concat"})
_REDUCING = frozenset(
    {
        *("Softmax", "LogSoftmax", "LayerNormalization", "InstanceNormalization", "GroupNormalization"),
        *("RMSNormalization", "ReduceMean", "ReduceSum", "ReduceMax", "LpNormalization"),
    }
)
GENERATED = ACTIVATIONS | {
    *("Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Neg", "Erf", "Exp", "Where", "Softmax", "LayerNormalization"),
}
"""Operators that TensorRT generates a kernel for, with the conversions of its result inside."""
FUSED = GENERATED | _REDUCING | {*("Reciprocal", "Abs", "Log", "Min", "Max", "Sin", "Cos", "Not", "Cast")}
"""Operators that are one kernel with those of the same kind before and behind them."""


@dataclass(frozen=True)
class Reformat:
    """`tensor` (of `elements` per sample) in another format because `reader` wants it: a kernel, or a second result.

    It is a kernel of its own unless it is `fused` into the one that writes the tensor.
    """

    tensor: str
    elements: int
    stored: Precision
    wanted: Precision
    reader: str
    fused: bool = False

    @property
    def moved_bits(self) -> float:
        """Bits read and written per sample."""
        stored, wanted = self.stored.spec.width, self.wanted.spec.width
        return self.elements * (wanted if self.fused else stored + wanted)


@dataclass(frozen=True)
class Kernel:
    """A group or what is outside: it reads tensors and writes others. Counts are for one sample.

    `reads` are tensors from outside: what attention computes between its two products never leaves the kernel.
    `writes` maps each tensor to its elements. `depth` is how many products are summed for one value of the result,
    `channels` how many a convolution reads and writes, in other formats than those it is a product of patches in
    (`of_patches`). `parts` is how many kernels it is where the compiler does not merge its products: each has a weight
    of its own.
    """

    name: str
    reads: tuple[str, ...]
    writes: Mapping[str, int]
    input_elements: int
    flops: int = 0
    weights: int = 0
    kind: KernelKind = "other"
    depth: int = 0
    channels: tuple[int, int] | None = None
    parts: int = 1
    of_patches: frozenset[Precision] = frozenset()

    @classmethod
    def of_group(cls, group: LayerGroup) -> Kernel:
        """The kernel of a group."""
        return cls(
            group.id, group.reads, group.writes, group.input_elements, group.flops, group.weight_elements,
            _kind_of(group), group.flops // max(1, 2 * group.output_elements), _channels_of(group),
            max(1, len(group.weights)),
            frozenset(p for p in Precision if any(weight.of_patches(p) for weight in group.weights)),
        )  # fmt: skip

    def vectors(self, precision: Precision) -> tuple[int | None, int | None]:
        """Channels that are stored in vectors on reading and on writing; None where nothing pads them."""
        return (None, None) if self.channels is None or precision in self.of_patches else self.channels

    @classmethod
    def of_loose(cls, op: LooseOp) -> Kernel:
        """The kernel of an op outside every group."""
        pointwise = op.op_type in FUSED - _REDUCING
        kind: KernelKind = "none" if op.op_type in _MOVED else "pointwise" if pointwise else "other"
        return cls(
            op.node, op.inputs, op.writes, op.input_elements, op.flops, kind="product" if op.flops else kind,
            depth=op.flops // max(1, 2 * op.output_elements),
        )  # fmt: skip


def _kind_of(group: LayerGroup) -> KernelKind:
    if group.op_type == "Attention":
        return "attention"
    kernel = _kernel_shape(group)
    return "depthwise" if kernel and kernel[1] == 1 < kernel[0] else "product"


def _channels_of(group: LayerGroup) -> tuple[int, int] | None:
    kernel = _kernel_shape(group)
    if kernel is None:
        return None
    outputs, inputs, *_ = kernel
    return (outputs if inputs == 1 else inputs), outputs


def _kernel_shape(group: LayerGroup) -> tuple[int, ...] | None:
    """Shape of a convolution's weight: output channels, input channels, and where it reaches; None for others."""
    shapes = [weight.shape for weight in group.weights if group.op_type == "Conv" and len(weight.shape) > 2]
    return shapes[0] if len(shapes) == 1 else None


def together(kernels: Sequence[Kernel], fusible: frozenset[str]) -> tuple[Kernel, ...]:
    """The kernels with neighbours among the `fusible` as one, named after its first.

    Two are one kernel if one reads the other and as many kernels lie before both, on the longest way. So no third lies
    between them, by which a way would go out of the kernel and in again.

    Args:
        kernels: All kernels, in any order.
        fusible: Names of those that may be one with a neighbour.
    """
    writer = {tensor: kernel.name for kernel in kernels for tensor in kernel.writes}
    levels = _levels(kernels, writer, fusible)
    leader = {kernel.name: kernel.name for kernel in kernels}
    members = {kernel.name: [kernel] for kernel in kernels}
    for kernel in kernels:
        for before in {writer[tensor] for tensor in kernel.reads if tensor in writer}:
            if {before, kernel.name} <= fusible and levels[before] == levels[kernel.name]:
                _join(leader, members, before, kernel.name)
    readers: dict[str, set[str]] = defaultdict(set)
    for kernel in kernels:
        for tensor in kernel.reads:
            readers[tensor].add(leader[kernel.name])
    merged = (_as_one(members[kernel.name], readers) for kernel in kernels if leader[kernel.name] == kernel.name)
    return tuple(replace(kernel, kind="none") if _is_epilogue(kernel, readers) else kernel for kernel in merged)


def _is_epilogue(kernel: Kernel, readers: Mapping[str, set[str]]) -> bool:
    """Whether it changes single values of one tensor that nobody else reads: whoever writes that can do it."""
    if kernel.kind != "pointwise" or len(kernel.reads) != 1:
        return False
    return readers[kernel.reads[0]] == {kernel.name} and sum(kernel.writes.values()) == kernel.input_elements


def _levels(kernels: Sequence[Kernel], writer: Mapping[str, str], fusible: frozenset[str]) -> dict[str, int]:
    """How many borders between kernels lie before each, on the longest way; between two fusible ones there is none."""
    by_name = {kernel.name: kernel for kernel in kernels}
    before = {k.name: {writer[tensor] for tensor in k.reads if tensor in writer} - {k.name} for k in kernels}
    waiting, after = {name: len(names) for name, names in before.items()}, defaultdict(list)
    for name, names in before.items():
        for other in names:
            after[other].append(name)
    levels = dict.fromkeys(by_name, 0)
    ready = [name for name, count in waiting.items() if not count]
    while ready:
        name = ready.pop()
        for follower in after[name]:
            border = not {name, follower} <= fusible
            levels[follower] = max(levels[follower], levels[name] + border)
            waiting[follower] -= 1
            if not waiting[follower]:
                ready.append(follower)
    return levels


def _join(leader: dict[str, str], members: dict[str, list[Kernel]], one: str, other: str) -> None:
    kept, moved = leader[one], leader[other]
    if kept == moved:
        return
    leader.update((kernel.name, kept) for kernel in members[moved])
    members[kept] += members.pop(moved)


def _as_one(kernels: Sequence[Kernel], readers: Mapping[str, set[str]]) -> Kernel:
    """What nobody outside reads, but somebody inside, never leaves the kernel."""
    if len(kernels) == 1:
        return kernels[0]
    first, inner = kernels[0], {tensor: count for kernel in kernels for tensor, count in kernel.writes.items()}
    passed = sum(inner.get(tensor, 0) for kernel in kernels for tensor in kernel.reads)
    return replace(
        first,
        reads=tuple(dict.fromkeys(t for kernel in kernels for t in kernel.reads if t not in inner)),
        writes={tensor: count for tensor, count in inner.items() if readers[tensor] != {first.name}},
        input_elements=sum(kernel.input_elements for kernel in kernels) - passed,
        flops=sum(kernel.flops for kernel in kernels),
        kind="pointwise" if all(kernel.kind == "pointwise" for kernel in kernels) else "other",
    )
