"""`trt-mpq compare`: the typed network against FP32."""

from __future__ import annotations

from trt_mpq.cli import options
from trt_mpq.cli.opening import open_stage


def compare(
    run_dir: options.RunDir,
    eval: options.Eval = None,
    eval_samples: options.EvalSamples = None,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Run typed.onnx and the FP32 model on the same samples and compare every output."""
    given = options.settings_given(locals())
    from trt_mpq.cli.output import Output
    from trt_mpq.cli.tables import comparison_table
    from trt_mpq.types import Comparison

    sink = Output(quiet=quiet, json=json)
    sink.result(open_stage(run_dir, given, sink).compare(), Comparison, comparison_table)
