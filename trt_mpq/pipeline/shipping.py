"""The engine of a run: built, timed and chosen on a GPU, or made by NVIDIA's compiler where there is none."""

from __future__ import annotations

from dataclasses import dataclass, replace

from trt_mpq.artifacts.files import sha256_of
from trt_mpq.artifacts.stage import Stage
from trt_mpq.artifacts.store import Store
from trt_mpq.engine.handover import DESCRIBED, SEARCHED, CalibratedNetwork
from trt_mpq.engine.shipping import built_on_a_gpu, is_shipped, ship
from trt_mpq.errors import RuntimeFailure
from trt_mpq.pipeline.builds import shapes_of
from trt_mpq.pipeline.compiler import compiled
from trt_mpq.pipeline.delivery import DeliveryStages
from trt_mpq.pipeline.deployment import deployment, require_comparison
from trt_mpq.pipeline.gpu import Gpu
from trt_mpq.types import PrecisionPlan
from trt_mpq.types.compilation import Compilation
from trt_mpq.types.engine import Deployment


@dataclass(frozen=True)
class Shipped:
    """What happened on a GPU, and what NVIDIA's compiler made of the plan; None where it was not asked."""

    deployed: Deployment | None
    compilation: Compilation | None

    @property
    def timed(self) -> bool:
        """Whether an engine was built on a GPU."""
        return self.deployed is not None

    @property
    def has_engine(self) -> bool:
        """Whether there is an engine in the run folder."""
        made = self.compilation is not None and self.compilation.engine_sha256 is not None
        return made or (self.deployed is not None and self.deployed.shipped is not None)


def shipped_engine(store: Store, described: Stage[CalibratedNetwork], delivery: DeliveryStages, gpu: Gpu) -> Shipped:
    """Build the engine of the plan that is delivered, as far as this machine and the settings let."""
    plan, compilation = store[delivery.plan.result].chosen.plan, delivery.plan.compilation
    made = None if compilation is None else store[compilation]
    wanted = store.settings.engine.build != "never" and plan.deployable
    deployed = deployment(store, described, delivery.searched, gpu) if wanted else None
    if made is not None and wanted and deployed is None:
        made = _shipped(store, described, plan, made)
    return Shipped(deployed, made)


def require_shipped(store: Store, found: Shipped) -> None:
    """Check what was asked of the engine, when all that there is to say is written.

    Raises:
        ComparisonFailed: Its outputs fail Polygraphy's comparison, and that is required.
        RuntimeFailure: There must be an engine, and the compiler made none.
    """
    if found.deployed is not None:
        require_comparison(store.settings, found.deployed)
    if store.settings.engine.build == "always" and found.compilation and not (found.timed or found.has_engine):
        raise RuntimeFailure(f"no engine was made: {found.compilation.build.reason}")


def compiled_engine(store: Store, gpu: Gpu) -> Compilation:
    """The engine that needs no GPU, in the device half of a run, which takes the plan as it is.

    Raises:
        MissingDependencyError: The compiler is not installed.
        RuntimeFailure: It does not serve the device of the run, or refuses the plan.
    """
    gpu.require_engine()
    emitter = Stage(
        "searched-emitter", lambda job: job[SEARCHED].emitter(job[DESCRIBED].network(job.folder), job.folder),
        needs=(DESCRIBED, SEARCHED),
    )  # fmt: skip
    found: Stage[PrecisionPlan] = Stage(
        "searched-plan", lambda job: job[SEARCHED].result.chosen.plan, needs=(SEARCHED,), digest=lambda one: one.digest
    )
    made = store[compiled("compiled-again", DESCRIBED, emitter, found, repair=False)]
    if not made.build.built:
        raise RuntimeFailure(f"no engine was made: {made.build.reason}")
    return _shipped(store, DESCRIBED, store[SEARCHED].result.chosen.plan, made)


def _shipped(store: Store, described: Stage[CalibratedNetwork], plan: PrecisionPlan, made: Compilation) -> Compilation:
    """`made` with its engine in the folder `engine`, if it is for the device of the run."""
    if made.build.engine is None or not made.for_device:
        return made
    if built_on_a_gpu(store.folder, plan):
        store.observer.note("the engine that a GPU built of the same plan stays where it is")
        return made
    digest = sha256_of(store.folder / made.build.engine)
    if not is_shipped(store.folder, digest):
        network, options = store[described], store.settings.engine
        ship(store.folder, made.build, plan, network, options, shapes_of(network, options.shapes))
    return replace(made, engine_sha256=digest)
