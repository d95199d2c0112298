"""`trt-mpq report`: what the run found."""

from __future__ import annotations

from typing import Annotated, Any

from trt_mpq.api.opening import open_finished
from trt_mpq.cli.options import Details, RunDir, Takes, Trust
from trt_mpq.cli.output import Output


def report(
    run_dir: RunDir,
    *,
    given: Annotated[dict[str, Any], Takes("threads")],
    sink: Output,
    trust: Trust = False,
    details: Details = False,
) -> None:
    """Write report.json and report.html anew and print the report; of several devices their comparison too."""
    sink.report(open_finished(run_dir, given, sink, trust=trust).report(), run_dir, details)
