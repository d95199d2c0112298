"""The nouns of the device half of a run: frozen values, JSON in and out. Times are milliseconds, sizes bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from trt_mpq.types import Comparison, Precision, PrecisionPlan, Score

Shape = tuple[int, ...]
Typing = Literal["strong", "weak"]
Flavour = Literal["tensorrt", "rtx"]
"""TensorRT itself, or TensorRT for RTX."""


@dataclass(frozen=True)
class Platform:
    """What an engine is tied to: the GPU, its compute capability times ten, and the versions of the libraries.

    `cuda` is the CUDA version the driver supports, as "13.0", and `tensorrt` the version of the TensorRT that `flavour`
    names.
    """

    gpu: str
    sm: int
    tensorrt: str
    cuda: str
    driver: str
    flavour: Flavour = "tensorrt"


@dataclass(frozen=True)
class AheadOfTime:
    """What an engine is tied to that was compiled without a GPU: TensorRT for RTX, and GPUs that it was told.

    Attributes:
        tensorrt: Version of TensorRT for RTX.
        capabilities: Compute capabilities, times ten, in ascending order.
        flavour: Tells it from a `Platform` in JSON.
    """

    tensorrt: str
    capabilities: tuple[int, ...]
    flavour: Literal["rtx"] = "rtx"


@dataclass(frozen=True)
class ShapeRange:
    """An optimization profile's range for one input whose shape is dynamic."""

    minimum: Shape
    optimum: Shape
    maximum: Shape


def capabilities_text(capabilities: Sequence[int]) -> str:
    """Compute capabilities, times ten, as people write them: 8.0, 8.9 and 12.0."""
    *others, last = (f"{sm // 10}.{sm % 10}" for sm in capabilities)
    return f"{', '.join(others)} and {last}" if others else last


class BuildStatus(str, Enum):
    """How a build ended. Only `BUILT` leaves an engine; every other ending is an outcome, not an exception."""

    BUILT = "built"
    FAILED = "failed"
    CRASHED = "crashed"
    TIMED_OUT = "timed out"
    OUT_OF_MEMORY = "ran out of memory"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class EngineBuild:
    """Outcome of one engine build.

    Attributes:
        status: How it ended.
        typing: How the network was typed.
        seconds: Wall time of the build process.
        engine: The engine, as a path from the run folder (a file name where there is none); None unless built.
        size_bytes: Size of the engine file.
        layers: The engine inspector's JSON, likewise.
        platform: Where it was built, or what it was compiled for; None if the build never got that far.
        errors: TensorRT's own errors, oldest first; empty if built.
        warnings: TensorRT's own warnings, each kind once.
        reason: Why there is no engine, in one sentence; empty if built.
        unused: What was asked for and had no effect, such as a constraint on a layer that is gone, with the reason.
    """

    status: BuildStatus
    typing: Typing
    seconds: float
    engine: str | None = None
    size_bytes: int = 0
    layers: str | None = None
    platform: Platform | AheadOfTime | None = None
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    reason: str = ""
    unused: tuple[str, ...] = ()

    @property
    def built(self) -> bool:
        """Whether there is an engine."""
        return self.status is BuildStatus.BUILT

    @property
    def refused(self) -> bool:
        """Whether TensorRT was there and said no to the network."""
        return self.status is BuildStatus.FAILED and self.platform is not None


@dataclass(frozen=True)
class EngineTensor:
    """A tensor at the border of an engine layer. `datatype` is fp32, fp16, bf16, fp8, int8, int32, … or unknown."""

    name: str
    datatype: str
    layout: str
    shape: Shape


LayerRole = Literal["group", "reformat", "quantize", "other"]


@dataclass(frozen=True)
class EngineLayer:
    """One layer of a built engine, as the engine inspector describes it.

    Attributes:
        name: Name in the engine, the same that per-layer times carry.
        kind: TensorRT's layer type.
        role: "group" if it holds at least one group's anchor, "reformat" for copies between formats and layouts,
            "quantize" for a Q, DQ or cast that was left as a kernel of its own, else "other".
        groups: Ids of the groups whose anchor it holds.
        nodes: ONNX nodes it came from, as far as TensorRT says.
        inputs: What it reads.
        outputs: What it writes.
        tactic: Name of the chosen kernel, empty where TensorRT gives none.
    """

    name: str
    kind: str
    role: LayerRole
    groups: tuple[str, ...]
    nodes: tuple[str, ...]
    inputs: tuple[EngineTensor, ...]
    outputs: tuple[EngineTensor, ...]
    tactic: str = ""


@dataclass(frozen=True)
class RealisedGroup:
    """The precision that was asked for and the one the engine runs; `realised` is None where TensorRT hides it.

    `note` says why they differ or why it is unknown; it is empty where they agree.
    """

    group: str
    requested: Precision
    realised: Precision | None
    layers: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True)
class Realised:
    """What became of a plan: one entry per group in network order, and the layers that are pure overhead."""

    groups: tuple[RealisedGroup, ...]
    unfused: tuple[str, ...]
    """Names of layers with the role "quantize"."""
    reformats: tuple[str, ...]
    """Names of layers with the role "reformat"."""
    layers: int
    """Layers of the engine."""

    @property
    def agreeing(self) -> int:
        """Groups whose realised precision is the requested one."""
        return sum(group.realised is group.requested for group in self.groups)

    @property
    def unknown(self) -> int:
        """Groups whose realised precision TensorRT hides."""
        return sum(group.realised is None for group in self.groups)


@dataclass(frozen=True)
class Spread:
    """Distribution of one timed quantity over all iterations."""

    minimum: float
    mean: float
    median: float
    p90: float
    p95: float
    p99: float
    maximum: float


@dataclass(frozen=True)
class Conditions:
    """State of the GPU at one moment, as NVML tells it; None where it does not.

    `energy_mj` is what the board took since its driver was loaded, which GPUs count from Volta on.
    """

    sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    power_w: float | None = None
    temperature_c: float | None = None
    throttled: str | None = None
    energy_mj: float | None = None


@dataclass(frozen=True)
class LayerTime:
    """Median time of one engine layer per inference, from a run of its own with TensorRT's profiler."""

    name: str
    ms: float


@dataclass(frozen=True)
class Profile:
    """Timing of one engine, with trtexec's definitions.

    Attributes:
        gpu_compute: Time the GPU computes one inference, between two CUDA events.
        enqueue: Host time to enqueue it.
        h2d: Copy of the inputs to the device.
        d2h: Copy of the outputs to the host.
        latency: h2d + gpu_compute + d2h, per iteration.
        throughput: Inferences per second (of a whole batch each) with the iterations back to back.
        iterations: Timed inferences.
        batch: Samples per inference.
        cuda_graph: Whether inferences were launched as a CUDA graph.
        input_sets: Different inputs that were rotated.
        warm_up_ms: Time spent on inferences that were not counted.
        other_graph_median: Median gpu_compute the other way round (without the CUDA graph, or with), None if not run.
        launch_bound: Whether enqueueing without a CUDA graph takes more than 0.8 of the time of computing, as trtexec
            warns.
        before: State of the GPU before.
        after: State of the GPU after.
        layers: Per-layer times in the engine's order; their sum is not the latency.
        energy_mj: What the board took for one inference, on the average of all rounds; None where NVML does not tell.
    """

    gpu_compute: Spread
    enqueue: Spread
    h2d: Spread
    d2h: Spread
    latency: Spread
    throughput: float
    iterations: int
    batch: int
    cuda_graph: bool
    input_sets: int
    warm_up_ms: float
    other_graph_median: float | None
    launch_bound: bool
    before: Conditions
    after: Conditions
    layers: tuple[LayerTime, ...] = ()
    energy_mj: float | None = None


@dataclass(frozen=True)
class Ratio:
    """gpu_compute of `subject` over that of `baseline`, timed in turns, with a bootstrap confidence interval."""

    subject: str
    baseline: str
    value: float
    low: float
    high: float
    confidence: float
    rounds: int


@dataclass(frozen=True)
class SideBySide:
    """Engines timed in turns in one session: name to profile, and the ratio of each to the baseline.

    `graph_refusal` names the engine, and the reason, for which none was launched as a CUDA graph although that was
    asked for; None if there is no such engine.
    """

    profiles: Mapping[str, Profile]
    ratios: tuple[Ratio, ...]
    graph_refusal: str | None = None

    def ratio(self, subject: str) -> Ratio | None:
        """The ratio of `subject` to the baseline, None for the baseline itself."""
        return next((ratio for ratio in self.ratios if ratio.subject == subject), None)


@dataclass(frozen=True)
class Candidate:
    """A plan that was built on the device.

    `feasible` says whether it keeps the target, by `score`, the task score through its engine, where that was measured,
    else by what the search knows; None if its accuracy was never measured.
    """

    name: str
    plan: PrecisionPlan
    build: EngineBuild
    feasible: bool | None
    score: Score | None = None


@dataclass(frozen=True)
class Decision:
    """Which candidate is shipped (None: no engine could be built), and why.

    `baseline` is the candidate that another one has to beat: every group in the high precision of the run.
    """

    shipped: str | None
    verdict: str
    baseline: str = "fp16"


@dataclass(frozen=True)
class Deployment:
    """Everything that happened on the device.

    Attributes:
        batch: Samples per inference.
        candidates: What was built, the baselines included; the first is the plan the search chose.
        timing: Their timing side by side, None if no engine was built.
        decision: What is shipped.
        realised: Requested against realised precision of the shipped engine, None if there is none.
        comparison: The shipped engine against FP32, None without data to compare on.
        score: Task score through the shipped engine, None without evaluation data.
        engine_sha256: Of the shipped engine's file, None if there is none.
        reproduce: The trtexec command that builds and times the shipped engine, empty if there is none.
        notes: What could not be done, each in one sentence.
    """

    platform: Platform
    batch: int
    candidates: tuple[Candidate, ...]
    timing: SideBySide | None
    decision: Decision
    realised: Realised | None = None
    comparison: Comparison | None = None
    score: Score | None = None
    engine_sha256: str | None = None
    reproduce: str = ""
    notes: tuple[str, ...] = ()

    def candidate(self, name: str) -> Candidate:
        """The candidate called `name`; KeyError if there is none."""
        for candidate in self.candidates:
            if candidate.name == name:
                return candidate
        raise KeyError(name)

    @property
    def shipped(self) -> Candidate | None:
        """The candidate that is shipped, None if no engine could be built."""
        return None if self.decision.shipped is None else self.candidate(self.decision.shipped)

    @property
    def shipped_profile(self) -> Profile | None:
        """Timing of the shipped engine, None if nothing is shipped or it was not timed."""
        shipped = self.decision.shipped
        return self.timing.profiles.get(shipped) if self.timing and shipped else None

    @property
    def ratios(self) -> dict[str, Ratio]:
        """Candidate to its ratio to the baseline of the decision, for all that were compared with it."""
        ratios = self.timing.ratios if self.timing else ()
        return {ratio.subject: ratio for ratio in ratios if ratio.baseline == self.decision.baseline}
