"""How engines are built and timed: the options of the table `[engine]`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from trt_mpq.settings.option import CONFIG, Option

_NOT_IN_THE_ENGINE = frozenset(
    {
        "build", "typing", "shapes", "timing_cache", "build_timeout_s", "cuda_graph", "warm_up_ms", "rounds",
        "round_ms", "input_sets", "margin", "flavour", "portable", "compile", "compile_timeout_s", "compile_memory_mib",
    }
)  # fmt: skip
"""Options that an engine does not show: how it is timed and chosen, and what is resolved before it is built."""


class EngineOptions(BaseModel):
    """Options of engine builds and their profiles; a job file has them in its table `[engine]`."""

    model_config = CONFIG

    build: Annotated[
        Literal["auto", "always", "never"],
        Option(
            "Engine", switch="engine", daily=True, unset="where a GPU, TensorRT and pycuda are, or TensorRT for RTX is"
        ),
    ] = "auto"
    """Build an engine, and time it where there is a GPU; it is an error if none can be built here."""
    flavour: Annotated[Literal["auto", "tensorrt", "rtx"], Option("Engine")] = "auto"
    """Which TensorRT builds on the GPU of this machine: TensorRT itself or TensorRT for RTX; auto is the first of them
    that is installed. With tensorrt, what TensorRT for RTX runs in 8 bit decides no longer which shapes stay out."""
    typing: Annotated[Literal["auto", "strong", "weak"], Option("Engine")] = "auto"
    """How precision reaches the builder: strong is by types in the network, weak by constraints beside Q/DQ (TensorRT
    8.6 to 10), auto is strong from TensorRT 10 on."""
    through: Annotated[Literal["onnx", "builder-api"], Option("Engine")] = "onnx"
    """How the plan reaches TensorRT: onnx parses the typed file with its Q/DQ; builder-api parses it in high precision
    and adds quantizers, and on weakly typed networks layer precisions, layer by layer."""
    shapes: Annotated[tuple[str, ...], Option("Engine", unset="1 to the batch, which it is best for")] = ()
    """Range of a dynamic input, NAME=MIN:OPT:MAX as in x=1x3x8x8:8x3x8x8:8x3x8x8."""
    workspace_mib: Annotated[PositiveInt | None, Option("Engine", unset="TensorRT's")] = None
    """Limit of the builder's workspace memory in MiB."""
    optimization_level: Annotated[Annotated[int, Field(ge=0, le=5)] | None, Option("Engine", unset="TensorRT's")] = None
    """Builder optimization level, 0 to 5."""
    timing_cache: Annotated[Path | None, Option("Engine", unset="in the run folder")] = None
    """Folder of timing caches, one per GPU and TensorRT version."""
    version_compatible: Annotated[bool, Option("Engine")] = False
    """Build an engine that later TensorRT versions run."""
    hardware_compatible: Annotated[Literal["none", "ampere_plus", "same_compute_capability"], Option("Engine")] = "none"
    """Build an engine that other GPUs run."""
    refit: Annotated[bool, Option("Engine")] = False
    """Let the weights of the engine be replaced."""
    sparsity: Annotated[bool, Option("Engine")] = False
    """Let the builder use 2:4 sparse weights."""
    tf32: Annotated[bool, Option("Engine")] = False
    """Let FP32 groups use TF32, which trtexec does unasked."""
    dla_core: Annotated[NonNegativeInt | None, Option("Engine", unset="the GPU alone")] = None
    """Run on this DLA core of a Jetson what it can, the rest on the GPU."""
    plugins: Annotated[tuple[Path, ...], Option("Engine")] = ()
    """Plugin library to load before parsing and before loading the engine."""
    build_timeout_s: Annotated[PositiveFloat, Option("Engine")] = 3600.0
    """Seconds that a single engine build may take."""
    compile: Annotated[bool, Option("Engine")] = True
    """Let NVIDIA's compiler, TensorRT for RTX (extra rtx), check the network, which takes no GPU; where there is none
    and it serves the device of the run, its engine is the result."""
    portable: Annotated[bool, Option("Engine")] = False
    """Compile for all RTX GPUs from Ampere on that have the formats of the plan, not only for the device of the run."""
    compile_timeout_s: Annotated[PositiveFloat, Option("Engine")] = 600.0
    """Seconds that a single compilation may take."""
    compile_memory_mib: Annotated[PositiveInt | None, Option("Engine", unset="three quarters of the machine's")] = None
    """MiB of memory that a compilation may take."""
    cuda_graph: Annotated[bool, Option("Timing")] = True
    """Launch timed inferences as a CUDA graph, as trtexec 11 does and trtexec 10 does not."""
    warm_up_ms: Annotated[NonNegativeFloat, Option("Timing")] = 200.0
    """Milliseconds of uncounted inferences before timing, as in trtexec."""
    rounds: Annotated[int, Field(ge=2), Option("Timing")] = 30
    """Turns in which engines that are compared are timed, 2 at least."""
    round_ms: Annotated[PositiveFloat, Option("Timing")] = 100.0
    """Least milliseconds of one engine's turn."""
    input_sets: Annotated[PositiveInt, Option("Timing")] = 4
    """Different inputs that timed inferences rotate."""
    margin: Annotated[float, Field(ge=0, lt=1), Option("Timing")] = 0.02
    """How much faster than FP16 or BF16 a plan must be, at the confidence of the ratio, to be shipped; 0.02 is 2 %."""

    def of_engine(self) -> dict[str, Any]:
        """The options that an engine depends on, as JSON values; `typing` and `shapes` are resolved elsewhere."""
        return self.model_dump(mode="json", exclude=set(_NOT_IN_THE_ENGINE))

    def of_network(self) -> dict[str, Any]:
        """The same, with what is resolved elsewhere: engines of one network on one device differ by nothing else."""
        return self.model_dump(mode="json", exclude=set(_NOT_IN_THE_ENGINE - {"typing", "shapes"}))
