"""The nouns of the product: frozen values that pass between stages, JSON in and out.

Nothing here computes numerics, reads files or imports a heavy library. Sizes are in bytes, times in
milliseconds, and per-sample counts (`flops`, element counts) hold for one sample of the batch.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum


class Precision(str, Enum):
    """A numeric format a group can run in. Its value is the spelling on the command line."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    FP8 = "fp8"
    INT8 = "int8"
    INT4 = "int4"

    def __str__(self) -> str:
        return self.value

    @property
    def bits(self) -> int:
        """Width of one element in bits."""
        return {"fp32": 32, "fp16": 16, "bf16": 16, "fp8": 8, "int8": 8, "int4": 4}[self.value]

    @property
    def quantized(self) -> bool:
        """Whether values carry a scale (Q/DQ) instead of being plain floating point."""
        return self in (Precision.FP8, Precision.INT8, Precision.INT4)

    @property
    def deployable(self) -> bool:
        """Whether TensorRT has kernels for it; INT4 activations exist for study only."""
        return self is not Precision.INT4


@dataclass(frozen=True)
class TensorSpec:
    """A model input or output; a dynamic dimension is its symbolic name."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Model:
    """A prepared model on disk: checked, BatchNorm folded, every node named."""

    path: str
    sha256: str
    source_sha256: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opset: int
    parameters: int
    size_bytes: int


@dataclass(frozen=True)
class QuantizedInput:
    """One place where a group reads an activation that an 8-bit plan quantizes.

    `node` reads `tensor` as its input number `index`. `role` is "input" for a weighted op's data input, "residual"
    for the other operand of a fused skip Add, and in attention "query", "key", "value" or "probabilities".
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
        node: The anchor, which reads it as its second input.
        bias: Initializer that is added per output channel by the anchor or right behind it, or None.
        output: Tensor written by the anchor itself.
        channel_axis: Axis of `output` that holds output channels.
    """

    name: str
    shape: tuple[int, ...]
    axis: int | None
    node: str
    bias: str | None
    output: str
    channel_axis: int

    @property
    def elements(self) -> int:
        """Number of values."""
        total = 1
        for dimension in self.shape:
            total *= dimension
        return total


@dataclass(frozen=True)
class LayerGroup:
    """What TensorRT fuses into one kernel, and which therefore shares one precision.

    Attributes:
        id: Name of its first node, unique in the model.
        index: Position in network order.
        op_type: Conv, ConvTranspose, Gemm or MatMul; Attention for softmax(Q K) V.
        nodes: All nodes; each anchor, then its fused followers in order.
        weights: The constant operand of every anchor: one, several for matrix products of one tensor, which run
            as one product (Q, K and V), none for attention.
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

    def allows(self, precision: Precision) -> bool:
        """Whether the group may run in `precision`."""
        return precision not in self.excluded

    def widest(self, *preferred: Precision) -> Precision:
        """The first of `preferred` that the group may run in, else the widest that it may."""
        candidates: tuple[Precision, ...] = (*preferred, *Precision)
        return next(precision for precision in candidates if self.allows(precision))


@dataclass(frozen=True)
class LooseOp:
    """A node outside every group: it runs in high precision, in a kernel of its own.

    `writes` maps the tensors it writes to their elements for one sample. `reason` says why a product or a table
    look-up is outside; it is None for operators that no group is made for.
    """

    node: str
    op_type: str
    inputs: tuple[str, ...]
    writes: Mapping[str, int]
    input_elements: int
    reason: str | None = None

    @property
    def output(self) -> str:
        """The first tensor it writes."""
        return next(iter(self.writes))

    @property
    def output_elements(self) -> int:
        """Elements written, for one sample."""
        return sum(self.writes.values())


@dataclass(frozen=True)
class Grouping:
    """All groups in network order, the remaining compute nodes, and tensors that share a scale.

    Each set in `shared_scales` names tensors that must have one scale (Concat operands and result,
    the two sides of MaxPool, Reshape, Transpose, Flatten).

    Attributes:
        top: The high precision of the run: what all runs in that is not in 8 bit, and the float type around Q/DQ.
        refuge: What a group or loose op runs in whose values `top` cannot hold.
    """

    groups: tuple[LayerGroup, ...]
    loose: tuple[LooseOp, ...]
    shared_scales: tuple[tuple[str, ...], ...]
    top: Precision = Precision.FP16
    refuge: Precision = Precision.FP32

    def by_id(self, group_id: str) -> LayerGroup:
        """The group called `group_id`; KeyError if there is none."""
        for group in self.groups:
            if group.id == group_id:
                return group
        raise KeyError(group_id)

    def uniform(self, precision: Precision) -> PrecisionPlan:
        """`precision` wherever a group allows it, else the high precision, its refuge, FP32."""
        return PrecisionPlan.uniform(self.groups, precision, self.top, self.refuge)


@dataclass(frozen=True)
class TensorRange:
    """Observed values of one tensor and the clipping magnitude (`amax`) chosen per format.

    `amax` is empty for tensors that were only watched for overflow.
    """

    minimum: float
    maximum: float
    amax: Mapping[Precision, float] = field(default_factory=dict)

    @property
    def magnitude(self) -> float:
        """Largest absolute value observed."""
        return max(abs(self.minimum), abs(self.maximum))


@dataclass(frozen=True)
class Ranges:
    """Result of calibration: tensor name to range, the method, and how many samples were seen."""

    method: str
    samples: int
    tensors: Mapping[str, TensorRange]


@dataclass(frozen=True)
class PrecisionPlan:
    """The central value: one precision per group, in network order. Hashable."""

    assignments: tuple[tuple[str, Precision], ...]

    @classmethod
    def of(cls, assignments: Mapping[str, Precision]) -> PrecisionPlan:
        """A plan from a mapping whose order is the network order."""
        return cls(tuple(assignments.items()))

    @classmethod
    def uniform(cls, groups: Iterable[LayerGroup], *preferred: Precision) -> PrecisionPlan:
        """For every group the first of `preferred` that it allows, else the widest that it does."""
        return cls(tuple((g.id, g.widest(*preferred)) for g in groups))

    def __getitem__(self, group_id: str) -> Precision:
        return self.as_dict()[group_id]

    def as_dict(self) -> dict[str, Precision]:
        """Group id to precision, in network order."""
        return dict(self.assignments)

    def replace(self, changes: Mapping[str, Precision]) -> PrecisionPlan:
        """The same plan with some groups changed."""
        return PrecisionPlan(tuple((g, changes.get(g, p)) for g, p in self.assignments))

    def counts(self) -> dict[Precision, int]:
        """How many groups run in each precision that occurs, widest first."""
        tally = Counter(p for _, p in self.assignments)
        return {p: tally[p] for p in Precision if tally[p]}

    @property
    def deployable(self) -> bool:
        """Whether TensorRT has kernels for all its precisions."""
        return all(p.deployable for _, p in self.assignments)

    @property
    def digest(self) -> str:
        """Short stable hash, the key of the evaluation cache."""
        text = ";".join(f"{g}={p.value}" for g, p in self.assignments)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Ranking:
    """Sensitivity of every group for every candidate precision; larger means more sensitive.

    `scores[precision][group_id]`; `groups` is the network order and breaks ties.
    """

    metric: str
    seed: int
    groups: tuple[str, ...]
    scores: Mapping[Precision, Mapping[str, float]]
    forward_passes: float = 0.0
    """Cost in samples run forward through the network (a backward pass counts as two)."""

    def order(self, precision: Precision) -> tuple[str, ...]:
        """Group ids that have a score for `precision`, least sensitive first."""
        scores = self.scores[precision]
        position = {g: i for i, g in enumerate(self.groups)}
        return tuple(sorted(scores, key=lambda g: (scores[g], position[g])))


@dataclass(frozen=True)
class Score:
    """A task score: higher is better. `stderr` is None when the metric is the user's own one number for all."""

    value: float
    stderr: float | None
    samples: int


@dataclass(frozen=True)
class Judgement:
    """Whether a plan keeps the target, and the score that says so.

    `complete` tells whether the score covers every evaluation sample; otherwise a test stopped early because the
    samples seen so far decided.
    """

    score: Score
    feasible: bool
    complete: bool


@dataclass(frozen=True)
class Evaluation:
    """One plan tried by the search.

    `note` says which step asked for it; `complete` whether the score covers every evaluation sample.
    """

    plan: PrecisionPlan
    score: Score
    latency_ms: float
    feasible: bool
    note: str
    complete: bool = True


@dataclass(frozen=True)
class SearchResult:
    """Outcome of a search: the chosen evaluation and the path that led there, in order.

    `stopped` names the budget that ended the search early, None if it ended by itself.
    """

    algorithm: str
    ladder: tuple[Precision, ...]
    chosen: Evaluation
    path: tuple[Evaluation, ...]
    stopped: str | None = None


@dataclass(frozen=True)
class Target:
    """A GPU as the latency model sees it; every number is cited in `sources`.

    `peak_tops` maps a precision to dense peak rate in tera-operations per second.
    """

    name: str
    description: str
    sm: int
    peak_tops: Mapping[Precision, float]
    bandwidth_gb_s: float
    launch_us: float
    compute_efficiency: float
    memory_efficiency: float
    sources: Mapping[str, str]

    def supports(self, precision: Precision) -> bool:
        """Whether the GPU has arithmetic for `precision`."""
        return precision in self.peak_tops


@dataclass(frozen=True)
class OutputComparison:
    """One output of the typed model against FP32, over the compared samples.

    `sqnr_db` is None when both are bit-equal. `passed` is Polygraphy's verdict at its tolerance.
    """

    output: str
    sqnr_db: float | None
    cosine: float
    max_abs_error: float
    passed: bool


@dataclass(frozen=True)
class Comparison:
    """Polygraphy's FP32-against-typed comparison and our own error figures per output."""

    samples: int
    absolute_tolerance: float
    relative_tolerance: float
    outputs: tuple[OutputComparison, ...]
