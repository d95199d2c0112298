"""`trt-mpq bisect`: which groups make an engine compute something else than its reference."""

from __future__ import annotations

from typing import Annotated, Any

from trt_mpq.api.opening import open_device
from trt_mpq.cli.options import RunDir, Takes, Trust
from trt_mpq.cli.output import Output


def bisect(
    run_dir: RunDir,
    *,
    given: Annotated[dict[str, Any], Takes("comparison_snr", "Engine", without=("build",))],
    sink: Output,
    trust: Trust = False,
) -> None:
    """Compare the engine of a searched run with its reference; if it is wrong, name the groups at fault.

    Engines of ever smaller parts of the plan are built on this machine. `trt-mpq engine` and `build` then keep those
    groups in FP16 or BF16.
    """
    from trt_mpq.cli.tables import bisection_table
    from trt_mpq.engine.bisection import Bisection

    sink.result(open_device(run_dir, given, sink, trust=trust).bisect().bisection, Bisection, bisection_table)
