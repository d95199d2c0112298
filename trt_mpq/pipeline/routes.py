"""What is left to do on a device, as far as a run knows it."""

from __future__ import annotations

from trt_mpq.artifacts.stage import Stage
from trt_mpq.artifacts.store import Store
from trt_mpq.engine.handover import CalibratedNetwork
from trt_mpq.engine.routes import delivered_in, routes_of
from trt_mpq.pipeline.sources import TARGET
from trt_mpq.types import PrecisionPlan
from trt_mpq.types.route import Route


def routes_to_engines(
    store: Store, described: Stage[CalibratedNetwork], plan: PrecisionPlan, weak_missing: str | None
) -> tuple[Route, ...]:
    """Every way from the delivered files to an engine on the device of the run; none for a plan that is for study."""
    if not plan.deployable:
        return ()
    return routes_of(
        delivered_in(store.folder, plan, store[described], store.settings.engine, weak_missing), store[TARGET].sm
    )
