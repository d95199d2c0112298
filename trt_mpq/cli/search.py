"""`trt-mpq search`: the plan."""

from __future__ import annotations

from typing import Annotated, Any

from trt_mpq.api.opening import open_stage
from trt_mpq.cli.options import RunDir, Takes, Trust
from trt_mpq.cli.output import Output

_OF_OTHER_STAGES = ("latency", "sensitivity_samples", "trials", "noise_amplitude", "compare_function", "compare_runner")


def search(
    run_dir: RunDir,
    *,
    given: Annotated[
        dict[str, Any],
        Takes("calib", "preprocess", "eval", "eval_samples", "Goal", "Search", "Running", without=_OF_OTHER_STAGES),
    ],
    sink: Output,
    trust: Trust = False,
) -> None:
    """Try plans along the ranking and choose the fastest that meets the accuracy target."""
    from trt_mpq.cli.tables import search_table
    from trt_mpq.report.wording import time_error
    from trt_mpq.types import SearchResult

    run = open_stage(run_dir, given, sink, trust=trust)
    found, (source, error) = run.search(), run.latencies()
    latencies = f"{source}\n{time_error(error).strip()}".strip()
    sink.result(found, SearchResult, lambda found: search_table(found, *run.task(), latencies))
