"""`trt-mpq engine`: from a run folder, searched here or elsewhere, to the engine on this machine."""

from __future__ import annotations

from typing import Annotated, Any

from trt_mpq.api.opening import open_device
from trt_mpq.cli.options import RunDir, SaveEngine, Sign, Takes, Trust
from trt_mpq.cli.output import Output

_OF_THE_ENGINE = ("eval", "preprocess", "eval_samples", "comparison_snr", "require_comparison")


def engine(
    run_dir: RunDir,
    *,
    given: Annotated[dict[str, Any], Takes(*_OF_THE_ENGINE, "Engine", "Timing", without=("build",))],
    sink: Output,
    trust: Trust = False,
    sign: Sign = None,
    save_engine: SaveEngine = None,
) -> None:
    """Build, time and verify the engine of a searched run on this machine, which needs neither model nor data.

    Without a GPU, NVIDIA's compiler makes the engine for an RTX GPU that the run is for (TensorRT for RTX, extra rtx).

    The searched plan is built beside the uniform ones and shipped only if it is faster than FP16 or BF16. With --eval
    the task metric is measured through the engine too.
    """
    from trt_mpq.engine.shipping import save_copy, signing
    from trt_mpq.report.terminal import compiler_section, device_section
    from trt_mpq.types.compilation import Compilation
    from trt_mpq.types.engine import Deployment

    with signing(run_dir, sign, sink):
        made = open_device(run_dir, given, sink, trust=trust).ship(evaluate="eval" in given)
    if isinstance(made, Compilation):
        sink.result(made, Compilation, compiler_section)
    else:
        sink.result(made, Deployment, device_section)
    if save_engine is not None:
        save_copy(run_dir, save_engine)
