"""NVIDIA's compiler on plans of a network, without a GPU; what it refuses is found by bisecting the plan on it.

A strongly typed network says every type, so what a compiler refuses lies in the plan: with the groups at fault back in
high precision it takes the rest.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from trt_mpq.emit import Emitter
from trt_mpq.engine.bisection import groups_at_fault
from trt_mpq.engine.build import build_engine
from trt_mpq.errors import MissingDependencyError, ModelError, RuntimeFailure
from trt_mpq.latency.target import RTX_SM
from trt_mpq.model import save_graph
from trt_mpq.runtime.tensorrt.request import BuildRequest
from trt_mpq.settings import EngineOptions
from trt_mpq.types import Precision, PrecisionPlan, Target
from trt_mpq.types.compilation import Compilation
from trt_mpq.types.engine import BuildStatus, EngineBuild, ShapeRange, capabilities_text

_AMPERE = 80
_COMPILED_TO_16_BIT = {"Conv": frozenset({75}), "ConvTranspose": frozenset(RTX_SM)}
"""Operators of which TensorRT for RTX 1.7 has no 8-bit kernel, to the compute capabilities, times ten, without one.

It takes them quantized, and compiles them to kernels that multiply in 16 bit (bench/results/realised.md).
"""
_MOST_COMPILATIONS = 64
"""Networks that are compiled to find what is refused; groups that were not decided by then go back too."""


@dataclass(frozen=True)
class PlanCompiler:
    """Compiles plans of one network.

    Attributes:
        emitter: Writes plans.
        shapes: Optimization profile of the dynamic inputs.
        options: What the deployer asked for.
        target: The GPU of the run.
    """

    emitter: Emitter
    shapes: Mapping[str, ShapeRange]
    options: EngineOptions
    target: Target

    def capabilities(self, plan: PrecisionPlan) -> tuple[int, ...]:
        """What `plan` is compiled for; see `capabilities_for`."""
        return capabilities_for(self.target.sm, self.emitter.precisions(plan), portable=self.options.portable)

    def compiled(self, plan: PrecisionPlan, network: Path) -> EngineBuild:
        """Write `plan` as `network` and compile that, in a process of its own; the engine lies beside it.

        Raises:
            SettingsError: A plugin library cannot be loaded.
            RunFolderError: A file cannot be written.
        """
        try:
            save_graph(self.emitter.strong(plan), network)
            request = BuildRequest(
                onnx=str(network), engine=network.with_suffix(".plan").name, typing="strong", shapes=self.shapes,
                options=self.options, timing_cache="", flavour="rtx", capabilities=self.capabilities(plan),
            )  # fmt: skip
            return build_engine(request, network.parent)
        except (ModelError, MissingDependencyError, RuntimeFailure) as error:
            return EngineBuild(BuildStatus.FAILED, "strong", 0.0, reason=str(error))

    def outcome(self, plan: PrecisionPlan, network: Path) -> Compilation:
        """What becomes of `plan`, which is taken as it is; arguments and errors as those of `compiled`."""
        build, capabilities = self.compiled(plan, network), self.capabilities(plan)
        notes = tuple(self._notes(plan, capabilities)) if build.built else ()
        return Compilation(build, self.target.name, self.target.sm, capabilities, notes=notes)

    def _notes(self, plan: PrecisionPlan, capabilities: tuple[int, ...]) -> Iterator[str]:
        """What the engine runs in 16 bit though it is quantized, a sentence for each operator."""
        held = plan.as_dict()
        for op_type, lacking in _COMPILED_TO_16_BIT.items():
            where = [sm for sm in capabilities if sm in lacking]
            groups = [group for group in self.emitter.groups if group.op_type == op_type]
            wide = [group for group in groups if held[group.id] in Precision.reading()]
            if where and wide:
                yield (
                    f"TensorRT for RTX has no 8-bit {op_type} for compute capability {capabilities_text(where)}: its "
                    f"engine runs {len(wide)} of the quantized groups in 16 bit there"
                )

    def repaired(self, plan: PrecisionPlan, high: PrecisionPlan, network: Path) -> Compilation:
        """What becomes of `plan`, with the groups that are refused put back to what they run in under `high`.

        Which these are is found by compiling the plan with ever smaller parts of it lowered. Arguments and errors are
        those of `compiled`.
        """
        first = self.outcome(plan, network)
        lowered = [group for group, precision in plan.assignments if precision.quantized]
        if not first.build.refused or not lowered:
            return first
        wanted, instead = plan.as_dict(), high.as_dict()
        tried = 1

        def lowering(groups: Collection[str]) -> PrecisionPlan:
            return plan.replace({group: instead[group] for group in lowered if group not in groups})

        with tempfile.TemporaryDirectory(prefix=".bisect-", dir=network.parent) as scratch:

            def accepts(groups: Collection[str]) -> bool:
                nonlocal tried
                if tried > _MOST_COMPILATIONS:
                    return False
                tried += 1
                return self.compiled(lowering(groups), Path(scratch) / "part.onnx").built

            refused = groups_at_fault(lowered, accepts) if accepts(()) else None
        if refused is None:
            return _refused_anyway(first, tried)
        raised = {group: wanted[group] for group in refused}
        outcome = self.outcome(lowering(set(lowered) - set(refused)), network)
        return replace(outcome, compiled=tried + 1, refusal=first.build.reason, raised=raised)


def capabilities_for(sm: int, held: Collection[Precision], *, portable: bool) -> tuple[int, ...]:
    """Compute capabilities, times ten, to compile a plan for.

    Args:
        sm: Compute capability of the GPU, times ten. One that TensorRT for RTX does not know is checked by the nearest
            below it that has all that the plan needs.
        held: Precisions in the plan.
        portable: Whether to compile for all from Ampere on that have them.
    """
    able = [known for known in RTX_SM if all(precision.spec.first_sm <= known for precision in held)]
    nearest = max((known for known in able if known < sm), default=able[0])
    own = sm if sm in RTX_SM else nearest
    return tuple(sorted({own, *(known for known in able if portable and known >= _AMPERE)}))


def _refused_anyway(first: Compilation, tried: int) -> Compilation:
    note = "it is refused with every group in high precision too, so no group is at fault"
    return Compilation(
        first.build, first.device, first.sm, first.capabilities, tried, first.build.reason, notes=(note,)
    )  # fmt: skip
