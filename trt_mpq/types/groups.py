"""What TensorRT fuses, what it leaves alone, and what they read, write and hold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from trt_mpq.types.plan import PrecisionPlan
from trt_mpq.types.precision import Precision
from trt_mpq.types.ties import Tie, tied_sets


@dataclass(frozen=True)
class QuantizedInput:
    """One place where a group reads an activation that an 8-bit plan quantizes.

    `node` reads `tensor` as its input number `index`. `role` is "input" for a weighted op's data input, "residual"
    for the other operand of a fused skip Add, in attention "query", "key", "value" or "probabilities", and in another
    product of two computed tensors "left" or "right".
    """

    tensor: str
    node: str
    index: int
    role: str

    @property
    def internal(self) -> bool:
        """Whether the group itself writes the tensor, as attention does its probabilities."""
        return self.role == "probabilities"


@dataclass(frozen=True)
class Weight:
    """A constant operand: initializer `name` of `shape`, quantized per `axis` (None: per tensor).

    Attributes:
        name: The initializer.
        shape: Its shape.
        axis: Axis with one scale per index, or None.
        node: The anchor.
        bias: Initializer that is added per output channel by the anchor or right behind it, or None.
        output: Tensor written by the anchor itself.
        channel_axis: Axis of `output` that holds output channels.
        rank: Axes of `output`.
        index: Which input of the anchor it is: the second, or the first in a product with the weight on the left.
        patches: How many patches lie along each axis, where a Conv reads every value once; empty for others.
    """

    name: str
    shape: tuple[int, ...]
    axis: int | None
    node: str
    bias: str | None
    output: str
    channel_axis: int
    rank: int
    index: int = 1
    patches: tuple[int, ...] = ()

    @property
    def elements(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    def of_patches(self, precision: Precision) -> bool:
        """Whether it is multiplied with patches as a matrix, since `precision` has no such convolution."""
        return bool(self.patches) and not precision.spec.convolves(math.prod(self.shape[2:]))


class _Restricted:
    """What may not run in every precision."""

    excluded: Mapping[Precision, str]

    def allows(self, precision: Precision) -> bool:
        """Whether it may run in `precision`."""
        return precision not in self.excluded

    def widest(self, *preferred: Precision) -> Precision:
        """The first of `preferred` that it may run in, else the widest that it may."""
        candidates: tuple[Precision, ...] = (*preferred, *Precision)
        return next(precision for precision in candidates if self.allows(precision))


@dataclass(frozen=True)
class LayerGroup(_Restricted):
    """What TensorRT fuses into one kernel, and which therefore shares one precision.

    Attributes:
        id: Name of its first node, unique in the model.
        index: Position in network order.
        op_type: Conv, ConvTranspose, Gemm or MatMul (also of two computed tensors); Attention for softmax(Q K) V.
        nodes: All nodes; each anchor, then its fused followers in order.
        weights: The constant operand of every anchor: one, several for matrix products of one tensor, which run
            as one product (Q, K and V), none for attention and other products of computed tensors.
        inputs: Activations to quantize when the group runs in 8 bit or less.
        writes: Tensors that later nodes or the user read, to their elements for one sample.
        flops: Multiply-adds times two, for one sample.
        input_elements: Activation elements read from outside, for one sample, residual included.
        excluded: Precision to the reason why the group may not run in it.
    """

    id: str
    index: int
    op_type: str
    nodes: tuple[str, ...]
    weights: tuple[Weight, ...]
    inputs: tuple[QuantizedInput, ...]
    writes: Mapping[str, int]
    flops: int
    input_elements: int
    excluded: Mapping[Precision, str] = field(default_factory=dict)

    @property
    def weight(self) -> Weight:
        """The weight of a group that has exactly one; ValueError for others."""
        (weight,) = self.weights
        return weight

    @property
    def output(self) -> str:
        """What a group with exactly one output writes; ValueError for others."""
        (output,) = self.writes
        return output

    @property
    def reads(self) -> tuple[str, ...]:
        """Activations read from outside the group, each once, in the order of `inputs`."""
        return tuple(dict.fromkeys(site.tensor for site in self.inputs if not site.internal))

    @property
    def weight_elements(self) -> int:
        """Number of values in all weights."""
        return sum(weight.elements for weight in self.weights)

    @property
    def output_elements(self) -> int:
        """Elements written, for one sample."""
        return sum(self.writes.values())


@dataclass(frozen=True)
class LooseOp(_Restricted):
    """A node outside every group: it runs in high precision, in a kernel of its own.

    `writes` maps the tensors it writes to their elements for one sample, `flops` are two for every multiply-add.
    `reason` says why what multiplies and adds, or looks up a table, is outside; it is None for other operators.
    `excluded` maps a precision to the reason why the node may not run in it.
    """

    node: str
    op_type: str
    inputs: tuple[str, ...]
    writes: Mapping[str, int]
    input_elements: int
    flops: int = 0
    reason: str | None = None
    excluded: Mapping[Precision, str] = field(default_factory=dict)

    @property
    def output(self) -> str:
        """The first tensor it writes."""
        return next(iter(self.writes))

    @property
    def output_elements(self) -> int:
        """Elements written, for one sample."""
        return sum(self.writes.values())


@dataclass(frozen=True)
class WorkShare:
    """Multiply-adds of one sample that are in the same place for the same reason.

    Attributes:
        grouped: Whether they are in groups.
        reason: What keeps them out of 8 bit; empty for groups that may run in every precision.
        multiply_adds: How many.
        share: Of all in the network.
    """

    grouped: bool
    reason: str
    multiply_adds: int
    share: float


@dataclass(frozen=True)
class Grouping:
    """All groups in network order, the remaining compute nodes, and tensors that share a scale.

    Attributes:
        ties: What gives tensors one scale: Concat, MaxPool, Reshape, Transpose…
        top: The high precision of the run: what all runs in that is not in 8 bit, and the float type around Q/DQ.
        refuge: What a group or loose op runs in whose values `top` cannot hold.
    """

    groups: tuple[LayerGroup, ...]
    loose: tuple[LooseOp, ...]
    ties: tuple[Tie, ...]
    top: Precision = Precision.FP16
    refuge: Precision = Precision.FP32

    @property
    def needs_refuge(self) -> bool:
        """Whether anything has values that `top` cannot hold; nothing else tells devices with another refuge apart."""
        return not all(part.allows(self.top) for part in (*self.groups, *self.loose))

    @property
    def quantized(self) -> frozenset[str]:
        """The activations that groups quantize."""
        return frozenset(site.tensor for group in self.groups for site in group.inputs)

    @property
    def shared_scales(self) -> tuple[tuple[str, ...], ...]:
        """Sets of two or more tensors that have one scale, at least one of them quantized."""
        wanted = self.quantized
        return tuple(names for names in tied_sets(self.ties) if len(names) > 1 and not wanted.isdisjoint(names))

    @property
    def flops(self) -> int:
        """Multiply-adds times two of the whole network, groups and the rest, for one sample."""
        return sum(group.flops for group in self.groups) + sum(op.flops for op in self.loose)

    @property
    def weight_elements(self) -> int:
        """Number of values in all weights; one that several groups read counts once."""
        return sum({weight.name: weight.elements for group in self.groups for weight in group.weights}.values())

    def widest(self, part: LayerGroup | LooseOp) -> Precision:
        """What a group that is not lowered or a loose op runs in: high precision, refuge, or the widest it may."""
        return part.widest(self.top, self.refuge)

    def options(self, ladder: Sequence[Precision]) -> dict[str, tuple[Precision, ...]]:
        """What each group may run in, by its id: the rungs it allows, and what it runs in that is not lowered."""
        return {
            g.id: tuple(p for p in Precision if p is self.widest(g) or (p in ladder and g.allows(p)))
            for g in self.groups
        }

    def uniform(self, precision: Precision) -> PrecisionPlan:
        """`precision` wherever a group allows it, else the high precision, its refuge, FP32."""
        return PrecisionPlan.uniform(self.groups, precision, self.top, self.refuge)
