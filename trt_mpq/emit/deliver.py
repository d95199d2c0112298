"""The files a plan is delivered as."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trt_mpq.emit.describe import describe_placement
from trt_mpq.emit.emitter import Emitter
from trt_mpq.errors import ModelError
from trt_mpq.model import save_graph
from trt_mpq.storage import to_json, write_text
from trt_mpq.types import PrecisionPlan

FLAVOUR_FILES = (
    "plan.json", "placement.txt", "reference.onnx", "reference.onnx.data", "typed.onnx", "typed.onnx.data", "weak.onnx",
    "weak.onnx.data",
)  # fmt: skip
"""Every file a delivery may hold; the `.data` files exist only beside graphs of more than 1.5 GB."""


@dataclass(frozen=True)
class Delivery:
    """What was written. `weak_missing` says why there is no weakly typed file, None if there is one."""

    plan: str
    deployable: bool
    typed_bytes: int
    weak_missing: str | None


def deliver(emitter: Emitter, plan: PrecisionPlan, folder: Path) -> Delivery:
    """Write `plan` into `folder`: as JSON, and in every flavour that can express it.

    Raises:
        RunFolderError: A file cannot be written.
    """
    write_text(folder / "plan.json", to_json(plan.as_dict(), dict[str, str]))
    save_graph(emitter.reference(plan), folder / "reference.onnx")
    strong = emitter.strong(plan)
    save_graph(strong, folder / "typed.onnx")
    write_text(folder / "placement.txt", describe_placement(strong.graph))
    return Delivery(
        plan=plan.digest,
        deployable=all(precision.deployable for precision in plan.counts()),
        typed_bytes=(folder / "typed.onnx").stat().st_size,
        weak_missing=_deliver_weak(emitter, plan, folder / "weak.onnx"),
    )


def _deliver_weak(emitter: Emitter, plan: PrecisionPlan, path: Path) -> str | None:
    try:
        graph = emitter.weak(plan)
    except ModelError as error:
        path.unlink(missing_ok=True)
        return str(error)
    save_graph(graph, path)
    return None
