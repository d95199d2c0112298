"""`trt-mpq emit`: the plan as networks."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import typer

from trt_mpq.api.opening import open_stage
from trt_mpq.cli.options import RunDir, Takes, Trust
from trt_mpq.cli.output import Output

_PLAN = "Another plan that the search tried, by its digest in the report, to plans/DIGEST of the run folder."


def emit(
    run_dir: RunDir,
    *,
    given: Annotated[dict[str, Any], Takes("threads")],
    plan: Annotated[str | None, typer.Option(metavar="DIGEST", help=_PLAN, show_default=False)] = None,
    sink: Output,
    trust: Trust = False,
) -> None:
    """Write the plan into the network: typed.onnx, weak.onnx where possible, reference.onnx."""
    from trt_mpq.cli.tables import files_table
    from trt_mpq.types import PrecisionPlan

    run, folder = open_stage(run_dir, given, sink, trust=trust), run_dir
    emitted = run.emit() if plan is None else run.emit_tried(plan)
    if plan is not None:
        folder = run_dir / "plans" / emitted.digest
    sink.result(emitted, PrecisionPlan, partial(files_table, folder=folder))
