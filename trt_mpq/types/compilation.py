"""What NVIDIA's compiler makes of a network without a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trt_mpq.types.engine import EngineBuild
from trt_mpq.types.precision import Precision


@dataclass(frozen=True)
class Compilation:
    """What NVIDIA's compiler, TensorRT for RTX, made of the network of a plan, on the CPU.

    Attributes:
        build: How that ended.
        device: The GPU the run is for.
        sm: Its compute capability, times ten.
        capabilities: Those that were compiled for, times ten.
        compiled: How many networks were compiled, to find what is refused too.
        refusal: What the compiler said of the plan of the search; empty if it took that.
        raised: Groups that it refuses, put back to the high precision, to what the search had for them.
        engine_sha256: Of the engine in the run folder; None if it was compiled as a check alone.
        notes: What else there is to know, in sentences.
    """

    build: EngineBuild
    device: str
    sm: int
    capabilities: tuple[int, ...]
    compiled: int = 1
    refusal: str = ""
    raised: Mapping[str, Precision] = field(default_factory=dict)
    engine_sha256: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def for_device(self) -> bool:
        """Whether what was compiled is for the GPU of the run, and not the nearest that the compiler knows."""
        return self.sm in self.capabilities
