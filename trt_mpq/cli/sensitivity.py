"""`trt-mpq sensitivity`: how much each group suffers from each precision."""

from __future__ import annotations

from typing import Annotated, Any

from trt_mpq.api.opening import open_stage
from trt_mpq.cli.options import RunDir, Takes, Trust
from trt_mpq.cli.output import Output

_OF_METRICS = ("sensitivity", "sensitivity_samples", "trials", "noise_amplitude", "compare_function", "compare_runner")


def sensitivity(
    run_dir: RunDir,
    *,
    given: Annotated[dict[str, Any], Takes("calib", "preprocess", "precisions", *_OF_METRICS, "batch", "Running")],
    sink: Output,
    trust: Trust = False,
) -> None:
    """Rank the groups by what a low precision costs them; with several metrics, see which to trust."""
    from trt_mpq.cli.tables import sensitivities_table
    from trt_mpq.sensitivity.agreement import Sensitivities

    sink.result(open_stage(run_dir, given, sink, trust=trust).sensitivities(), Sensitivities, sensitivities_table)
