"""`trt-mpq report`: what the run found."""

from __future__ import annotations

from trt_mpq.cli import options
from trt_mpq.cli.opening import open_stage


def report(
    run_dir: options.RunDir,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
    json: options.Json = False,
    details: options.Details = False,
) -> None:
    """Write report.json and report.html anew and print the report."""
    given = options.settings_given(locals())
    from trt_mpq.cli.output import Output

    sink = Output(quiet=quiet, json=json)
    sink.report(open_stage(run_dir, given, sink).report(), run_dir, details)
