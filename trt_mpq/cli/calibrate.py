"""`trt-mpq calibrate`: the ranges of every tensor."""

from __future__ import annotations

from typing import Annotated, Any

from trt_mpq.api.opening import open_stage
from trt_mpq.cli.options import RunDir, Takes, Trust
from trt_mpq.cli.output import Output


def calibrate(
    run_dir: RunDir,
    *,
    given: Annotated[
        dict[str, Any], Takes("calib", "preprocess", "calib_samples", "precisions", "Quantizers", "batch", "threads")
    ],
    sink: Output,
    trust: Trust = False,
) -> None:
    """Observe the calibration data and choose every tensor's range."""
    from trt_mpq.cli.tables import ranges_table
    from trt_mpq.types import Ranges

    sink.result(open_stage(run_dir, given, sink, trust=trust).calibrate(), Ranges, ranges_table)
