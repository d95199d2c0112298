"""`trt-mpq emit`: the plan as networks."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from trt_mpq.api.opening import open_stage
from trt_mpq.cli.options import RunDir, Takes, Trust
from trt_mpq.cli.output import Output


def emit(
    run_dir: RunDir, *, given: Annotated[dict[str, Any], Takes("threads")], sink: Output, trust: Trust = False
) -> None:
    """Write the plan into the network: typed.onnx, weak.onnx where possible, reference.onnx."""
    from trt_mpq.cli.tables import files_table
    from trt_mpq.types import PrecisionPlan

    sink.result(
        open_stage(run_dir, given, sink, trust=trust).emit(), PrecisionPlan, partial(files_table, folder=run_dir)
    )
