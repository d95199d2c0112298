"""`trt-mpq emit`: the plan as networks."""

from __future__ import annotations

from functools import partial

from trt_mpq.cli import options
from trt_mpq.cli.opening import open_stage


def emit(
    run_dir: options.RunDir,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Write the plan into the network: typed.onnx, weak.onnx where possible, reference.onnx."""
    given = options.settings_given(locals())
    from trt_mpq.cli.output import Output
    from trt_mpq.cli.tables import files_table
    from trt_mpq.types import PrecisionPlan

    sink = Output(quiet=quiet, json=json)
    sink.result(open_stage(run_dir, given, sink).emit(), PrecisionPlan, partial(files_table, folder=run_dir))
