"""What a deployer may ask of the TensorRT builder and of the profiler."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Level = Annotated[int, Field(ge=0, le=5)]
_NOT_IN_THE_ENGINE = frozenset(
    {
        "build", "typing", "shapes", "timing_cache", "build_timeout_s", "cuda_graph", "warm_up_ms", "rounds",
        "round_ms", "input_sets", "margin",
    }
)  # fmt: skip
"""Options that an engine does not show: how it is timed and chosen, and what is resolved before it is built."""


class EngineOptions(BaseModel):
    """Options of engine builds and their profiles; a job file has them in its table `[engine]`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    build: Literal["auto", "always", "never"] = "auto"
    """Whether `trt-mpq build` builds engines: "auto" does where a GPU, TensorRT and pycuda are there."""
    typing: Literal["auto", "strong", "weak"] = "auto"
    """How precision reaches the builder: types in the network, or constraints beside Q/DQ (TensorRT 8.6 to 10).
    "auto" is strong from TensorRT 10 on."""
    shapes: tuple[str, ...] = ()
    """Optimization profile of dynamic inputs, as NAME=MIN:OPT:MAX with shapes such as 1x3x224x224. Left out, the batch
    dimension goes from 1 to the batch of the run, which is the optimum."""
    workspace_mib: Annotated[int, Field(gt=0)] | None = None
    """Limit of the builder's workspace memory."""
    optimization_level: Level | None = None
    """Builder optimization level; None is TensorRT's default."""
    timing_cache: Path | None = None
    """Folder of timing caches, one per GPU and TensorRT version; None keeps them in the run folder."""
    version_compatible: bool = False
    """Build an engine that later TensorRT versions run."""
    hardware_compatible: Literal["none", "ampere_plus", "same_compute_capability"] = "none"
    """Build an engine that other GPUs run."""
    refit: bool = False
    """Let the weights of the engine be replaced."""
    sparsity: bool = False
    """Let the builder use 2:4 sparse weights."""
    tf32: bool = False
    """Let FP32 groups use TF32 (trtexec does by default)."""
    dla_core: Annotated[int, Field(ge=0)] | None = None
    """Run on this DLA core what it can, the rest on the GPU (Jetson)."""
    plugins: tuple[Path, ...] = ()
    """Plugin libraries to load before parsing and before loading the engine."""
    build_timeout_s: Annotated[float, Field(gt=0)] = 3600.0
    """Longest a single engine build may take."""
    cuda_graph: bool = True
    """Launch timed inferences as a CUDA graph (as trtexec 11 does; trtexec 10 does not)."""
    warm_up_ms: Annotated[float, Field(ge=0)] = 200.0
    """Time of uncounted inferences before timing (trtexec's default)."""
    rounds: Annotated[int, Field(ge=2)] = 30
    """Turns in which engines that are compared are timed."""
    round_ms: Annotated[float, Field(gt=0)] = 100.0
    """Least time of one engine's turn."""
    input_sets: Annotated[int, Field(gt=0)] = 4
    """Different inputs that timed inferences rotate."""
    margin: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """How much faster than FP16 a plan must be, at the confidence of the ratio, to be shipped."""

    def of_engine(self) -> dict[str, Any]:
        """The options that an engine depends on, as JSON values; `typing` and `shapes` are resolved elsewhere."""
        return self.model_dump(mode="json", exclude=set(_NOT_IN_THE_ENGINE))
