"""`trt-mpq compare`: the typed network against FP32."""

from __future__ import annotations

from typing import Annotated, Any

from trt_mpq.api.opening import open_stage
from trt_mpq.cli.options import RunDir, Takes, Trust
from trt_mpq.cli.output import Output


def compare(
    run_dir: RunDir,
    *,
    given: Annotated[
        dict[str, Any], Takes("eval", "preprocess", "eval_samples", "comparison_snr", "require_comparison", "threads")
    ],
    sink: Output,
    trust: Trust = False,
) -> None:
    """Run typed.onnx (reference.onnx of NVFP4) and the FP32 model on the same samples and compare every output."""
    from trt_mpq.cli.tables import comparison_table
    from trt_mpq.evaluate.compare import require_passed
    from trt_mpq.types import Comparison

    run = open_stage(run_dir, given, sink, trust=trust)
    comparison = run.compare()
    sink.result(comparison, Comparison, comparison_table)
    if run.settings.require_comparison:
        require_passed(comparison, comparison.file)
