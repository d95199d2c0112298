"""NVIDIA's compiler, TensorRT for RTX, on a plan of a network: what it takes to ask it."""

from __future__ import annotations

from dataclasses import replace

from trt_mpq.artifacts.stage import Job, Stage, json_kind
from trt_mpq.artifacts.store import Store
from trt_mpq.emit import Emitter
from trt_mpq.engine.compiling import PlanCompiler
from trt_mpq.engine.handover import CalibratedNetwork
from trt_mpq.engine.shipping import ENGINE_FOLDER
from trt_mpq.errors import RuntimeFailure, TrtMpqError
from trt_mpq.latency.target import RTX_SM
from trt_mpq.pipeline.builds import OF_ENGINE, shapes_of
from trt_mpq.pipeline.sources import TARGET
from trt_mpq.runtime.tensorrt.flavour import found_version
from trt_mpq.types import PrecisionPlan
from trt_mpq.types.compilation import Compilation
from trt_mpq.types.engine import capabilities_text

_COMPILER: Stage[str | None] = Stage("compiler", lambda job: found_version("rtx"), digest=str)
"""What is installed of TensorRT for RTX; None if nothing is."""


def has_compiler(store: Store) -> bool:
    """Whether the compiler is installed and may be used."""
    return store.settings.engine.compile and store[_COMPILER] is not None


def require_compiler(store: Store, without: TrtMpqError) -> None:
    """Check that the compiler makes engines for the device of the run, where no GPU can.

    Args:
        store: The run's.
        without: Why no GPU can.

    Raises:
        TrtMpqError: The compiler is not installed or must not be used: this is `without`.
        RuntimeFailure: It does not serve that device.
    """
    target = store[TARGET]
    if not has_compiler(store):
        raise without
    if target.sm not in RTX_SM:
        raise RuntimeFailure(
            f"{without}; and TensorRT for RTX, which needs no GPU, makes no engines for {target.name} (compute "
            f"capability {capabilities_text((target.sm,))})"
        )


def compiled(
    name: str, described: Stage[CalibratedNetwork], emitter: Stage[Emitter], plan: Stage[PrecisionPlan], *, repair: bool
) -> Stage[Compilation]:
    """What the compiler makes of `plan`, for the device of the run.

    Args:
        name: Of the stage, and of its files in the engine's folder.
        described: The network.
        emitter: Writes plans of it.
        plan: The plan.
        repair: Whether to put groups that are refused back to high precision.
    """
    stem = f"{ENGINE_FOLDER}/{name}"

    def make(job: Job) -> Compilation:
        options, network = job.settings.engine, job[described]
        compiler = PlanCompiler(job[emitter], shapes_of(network, options.shapes), options, job[TARGET])
        path = job.path(f"{stem}.onnx")
        if repair:
            done = compiler.repaired(job[plan], network.grouping.uniform(network.grouping.top), path)
        else:
            done = compiler.outcome(job[plan], path)
        return replace(done, build=replace(done.build, engine=f"{stem}.plan")) if done.build.built else done

    return Stage(
        stem, make, json_kind(Compilation), needs=(described, emitter, plan, TARGET, _COMPILER),
        reads=(*OF_ENGINE, "engine.shapes", "engine.portable"), uses=("engine",),
        files=(f"{stem}.onnx", f"{stem}.onnx.data", f"{stem}.plan"), title="Compiling with TensorRT for RTX",
        holds=lambda done, job: done.build.built or done.build.refused,
    )  # fmt: skip
