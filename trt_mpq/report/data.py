"""The report as a value: what a run found, JSON in and out.

Every number a rendering shows comes from here, so the terminal table, ``report.json`` and the page cannot
disagree. Times are milliseconds, sizes bytes. A number that does not exist or is not finite is null in JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Generic, TypeVar

from trt_mpq.engine.decide import PLAN
from trt_mpq.errors import RunFolderError
from trt_mpq.evaluate.interval import Holdout, LossInterval
from trt_mpq.latency.base import LatencySource
from trt_mpq.sensitivity.agreement import Agreement
from trt_mpq.types import Comparison, Precision, RefinementRecord, WorkShare
from trt_mpq.types.compilation import Compilation
from trt_mpq.types.engine import Candidate, Deployment
from trt_mpq.types.route import Route
from trt_mpq.types.target import LatencyError

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@dataclass(frozen=True)
class ModelInfo:
    """The model as the user knows it: file name, SHA-256 of the file, parameter count, opset."""

    name: str
    sha256: str
    parameters: int
    opset: int


@dataclass(frozen=True)
class CalibrationInfo:
    """How the ranges of each format were found, on how many samples, from where."""

    methods: Mapping[Precision, str]
    samples: int
    source: str


_T = TypeVar("_T")


class _ByPrecision(Generic[_T]):
    """Figures of the whole model, by the precision that it runs in."""

    fp32: _T | None
    fp16: _T | None
    uniform: Mapping[Precision, _T]

    def of(self, precision: Precision) -> _T | None:
        """The figure of the model in `precision` as far as groups allow, None if there is none."""
        named = {Precision.FP32: self.fp32, Precision.FP16: self.fp16}
        return named[precision] if precision in named else self.uniform.get(precision)


@dataclass(frozen=True)
class AccuracyFigures(_ByPrecision["float | None"]):
    """Scores of the whole model, higher is better, on the same `samples`.

    Attributes:
        metric: Name of the task metric.
        target: Score the plan had to reach.
        target_fraction: `target` as a fraction of the FP32 score; None if it was asked for as a loss.
        samples: Evaluation samples behind every score here.
        fp32: Score of the model as given.
        fp16: Score with every group in FP16, or None if it was not evaluated, as when BF16 takes its place.
        plan: Score of the chosen plan.
        fp32_stderr: Standard error of `fp32`, None when the metric has none.
        plan_stderr: Standard error of `plan`, None when the metric has none.
        uniform: Score of each uniform plan that was evaluated.
        loss: What the plan loses of `fp32`, with its interval; None where the metric tells none.
        holdout: Scores on data that nothing was chosen on; None if there is none.
        file: Score of the typed file in ONNX Runtime; None where that does not run it.
    """

    metric: str
    target: float | None
    target_fraction: float | None
    samples: int
    fp32: float | None
    fp16: float | None
    plan: float | None
    fp32_stderr: float | None
    plan_stderr: float | None
    uniform: Mapping[Precision, float | None]
    loss: LossInterval | None = None
    holdout: Holdout | None = None
    file: float | None = None

    def met_by(self, score: float | None) -> bool:
        """Whether `score` reaches the required score."""
        return score is not None and self.target is not None and score >= self.target


@dataclass(frozen=True)
class LatencyFigures(_ByPrecision[float]):
    """Milliseconds for one batch on `device`; `source` holds for every latency of the report.

    `error` is how far modelled latencies are from published ones on that device, None if they are not modelled or
    nothing tells it. `price_per_hour` is what the device costs, in whatever currency it was given, None if nobody said.
    """

    source: LatencySource
    device: str
    batch: int
    fp32: float | None
    fp16: float | None
    plan: float
    uniform: Mapping[Precision, float]
    error: LatencyError | None = None
    price_per_hour: float | None = None

    def samples_per_price(self, ms: float) -> float | None:
        """Samples for one unit of the price at `ms` a batch."""
        return self.batch * 3.6e6 / ms / self.price_per_hour if self.price_per_hour else None

    def tells(self, ms: float, other_ms: float) -> bool:
        """Whether two latencies differ by more than the error of such a difference."""
        return self.error is None or abs(ms / other_ms - 1) >= self.error.ratio


@dataclass(frozen=True)
class EnergyFigures(_ByPrecision[float]):
    """Modelled millijoules for one batch, of the board, see docs/energy.md."""

    fp32: float | None
    fp16: float | None
    plan: float
    uniform: Mapping[Precision, float]


@dataclass(frozen=True)
class SizeFigures(_ByPrecision[int]):
    """Bytes of the weights as deployed; `file` is what typed.onnx has, with graph and scales."""

    fp32: int
    fp16: int | None
    plan: int
    uniform: Mapping[Precision, int]
    file: int | None = None


@dataclass(frozen=True)
class SearchStep:
    """One plan the search evaluated, in the order it did.

    `complete` is False when a test decided the step after `samples` of the evaluation set, and then `score` is an
    estimate for the whole; `plan` is the digest. `delivered` is the score of typed.onnx where the search asked that
    too: a plan is infeasible as well if its file misses the target. `precisions` are those of the groups, in network
    order, `size_bytes` is what the weights take, `energy_mj` what a batch takes if that is known.
    """

    note: str
    score: float | None
    stderr: float | None
    samples: int
    latency_ms: float
    feasible: bool
    counts: Mapping[Precision, int]
    plan: str
    complete: bool = True
    delivered: float | None = None
    precisions: tuple[Precision, ...] = ()
    size_bytes: int | None = None
    energy_mj: float | None = None


@dataclass(frozen=True)
class SearchRecord:
    """How the plan was found and what that cost.

    Attributes:
        algorithm: Name of the search.
        sensitivity: Name of the metric that ranked the groups; empty if they were not ranked.
        unranked: Why no ranking could decide anything; None if one did.
        gap: How far the plans that a solver proposed may be from the best, as a share; None without a solver.
        evaluations: Plans tried.
        full_equivalents: What was really run for ranking and search, in passes over the whole evaluation set.
        seconds: What ranking and evaluations took.
        ladder: Precisions searched.
        path: Every plan tried, in order.
        stopped: The option whose budget ended the search, None if it ended by itself.
        limit: The option that set another target than accuracy, None if there was none.
        confidence: Of the test that stops evaluations early; 1 if none is stopped.
        objective: What it minimised: latency, energy or size.
    """

    algorithm: str
    sensitivity: str
    unranked: str | None
    evaluations: int
    full_equivalents: float
    seconds: float
    ladder: tuple[Precision, ...]
    path: tuple[SearchStep, ...]
    stopped: str | None = None
    limit: str | None = None
    confidence: float = 1.0
    gap: float | None = None
    objective: str = "latency"

    @property
    def decided_early(self) -> int:
        """How many plans a test decided before their last sample."""
        return sum(not step.complete for step in self.path)


@dataclass(frozen=True)
class PlanRecord:
    """The chosen plan.

    `deployable` is False when TensorRT has no kernels for one of its precisions; `mac_share` is the share of all
    multiply-adds, those outside groups too, that run in 8 bit or less.
    """

    counts: Mapping[Precision, int]
    assignments: Mapping[str, Precision]
    digest: str
    deployable: bool
    mac_share: float = 0.0


@dataclass(frozen=True)
class GroupRow:
    """One group as the report shows it.

    Attributes:
        id: Name of the anchor node.
        index: Position in network order, from 0.
        op_type: Operator of the anchor.
        followers: Operators fused behind the anchor, in order.
        weight_shapes: Shape of every weight: one, several for joined matrix products, none for attention.
        precision: What the plan chose.
        reason: Why, in a few words.
        sensitivity: Candidate precision to sensitivity; None where it was not computed or is not finite.
        flops: For one sample.
        weight_bytes: Bytes of the weights that it is the first group to store in its precision.
        latency_ms: Latency of the group in the chosen precision.
        fp16_latency_ms: Latency of the group in FP16, None where BF16 takes its place.
        bf16_latency_ms: Latency of the group in BF16, where that is the high precision of the run.
    """

    id: str
    index: int
    op_type: str
    followers: tuple[str, ...]
    weight_shapes: tuple[tuple[int, ...], ...]
    precision: Precision
    reason: str
    sensitivity: Mapping[Precision, float | None]
    flops: int
    weight_bytes: int
    latency_ms: float | None
    fp16_latency_ms: float | None
    bf16_latency_ms: float | None = None

    @property
    def baseline_latency_ms(self) -> float | None:
        """Latency of the group in the high precision of the run."""
        return self.fp16_latency_ms if self.bf16_latency_ms is None else self.bf16_latency_ms


@dataclass(frozen=True)
class TensorRow:
    """A tensor that a group quantizes.

    Attributes:
        name: Its name in the network.
        groups: Positions of the groups that read it, from 0.
        minimum: Least value observed.
        maximum: Largest value observed.
        amax: Clipping magnitude by format.
        methods: What chose it, of formats with a calibration method for every tensor.
        beyond: Share of the values that are clipped, by format; empty where none were counted.
        bins: Values by magnitude, in equal bins from 0 to the largest.
    """

    name: str
    groups: tuple[int, ...]
    minimum: float
    maximum: float
    amax: Mapping[Precision, float]
    beyond: Mapping[Precision, float]
    bins: tuple[int, ...]
    methods: Mapping[Precision, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """Everything a run has to say. `groups` counts `group_rows`; `created` is an ISO 8601 time.

    `latency_ms` is what the search went by; what engines really take is in `device`, None if none was built.
    `baseline` is the high precision of the run, FP16 or BF16: the plan is compared with the model in it.
    `agreement` is None unless several sensitivity metrics were asked for.
    `compilation` is what NVIDIA's compiler made of the network without a GPU, None where it was not asked.
    `tensors` are those that groups quantize; `layer_errors` is group to the signal-to-noise ratio in decibels of what
    it writes under the plan, against FP32, None where both are bit-equal.
    `multiply_adds` says where all of them are and what keeps them out of 8 bit, `data_faults` what seems wrong
    with the data. `routes` are the ways to an engine on the device, none where one was built there.
    """

    model: ModelInfo
    calibration: CalibrationInfo
    accuracy: AccuracyFigures
    latency_ms: LatencyFigures
    size_bytes: SizeFigures
    search: SearchRecord
    plan: PlanRecord
    groups: int
    group_rows: tuple[GroupRow, ...]
    refinement: tuple[RefinementRecord, ...]
    comparison: Comparison | None
    device: Deployment | None
    agreement: Agreement | None
    warnings: tuple[str, ...]
    not_done: tuple[str, ...]
    seed: int
    environment: Mapping[str, str]
    command: str
    created: str
    version: str
    baseline: Precision = Precision.FP16
    multiply_adds: tuple[WorkShare, ...] = ()
    compilation: Compilation | None = None
    data_faults: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    tensors: tuple[TensorRow, ...] = ()
    layer_errors: Mapping[str, float | None] = field(default_factory=dict)
    energy_mj: EnergyFigures | None = None

    @property
    def has_group_latencies(self) -> bool:
        """Whether every group has a latency, and not all of them zero."""
        latencies = [row.latency_ms for row in self.group_rows]
        return None not in latencies and any(latencies)

    @property
    def sensitivity_precisions(self) -> list[Precision]:
        """The precisions any group has a sensitivity for, widest first."""
        known = {p for row in self.group_rows for p, value in row.sensitivity.items() if value is not None}
        return [p for p in Precision if p in known]

    def reference_score(self, candidate: Candidate) -> float | None:
        """Score of a candidate in the reference runtime on the whole evaluation set; None if it was never scored so."""
        if candidate.name == PLAN:
            return self.accuracy.plan
        if candidate.name == self.baseline.value:
            return self.accuracy.of(self.baseline)
        uniform = (score for precision, score in self.accuracy.uniform.items() if precision.value == candidate.name)
        digest = candidate.plan.digest
        whole = (step.score for step in self.search.path if step.plan == digest and step.complete)
        return next(uniform, next(whole, None))


@cache
def _adapter() -> TypeAdapter[Report]:
    # pydantic is imported late, because it would be half of the start-up time of `trt-mpq --help`.
    from pydantic import TypeAdapter

    return TypeAdapter(Report)


def report_to_json(report: Report) -> str:
    """The report as indented JSON text ending in a newline."""
    return _adapter().dump_json(report, indent=2).decode() + "\n"


def report_from_json(text: str) -> Report:
    """The report that `report_to_json` wrote.

    Raises:
        RunFolderError: `text` is no JSON, or a field is missing or of the wrong type.
    """
    from pydantic import ValidationError

    try:
        return _adapter().validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        message = f"report.json cannot be read ({where}: {first['msg']}): run the build again to write it anew"
        raise RunFolderError(message) from error
