"""`trt-mpq engine`: from a run folder, searched here or elsewhere, to the engine on this machine."""

from __future__ import annotations

from trt_mpq.cli import options
from trt_mpq.cli.opening import open_device


def engine(
    run_dir: options.RunDir,
    eval: options.Eval = None,
    eval_samples: options.EvalSamples = None,
    typing: options.Typing = None,
    shapes: options.Shapes = None,
    workspace_mib: options.WorkspaceMib = None,
    optimization_level: options.OptimizationLevel = None,
    timing_cache: options.TimingCache = None,
    version_compatible: options.VersionCompatible = None,
    hardware_compatible: options.HardwareCompatible = None,
    refit: options.Refit = None,
    sparsity: options.Sparsity = None,
    tf32: options.Tf32 = None,
    dla_core: options.DlaCore = None,
    plugins: options.Plugins = None,
    build_timeout_s: options.BuildTimeoutS = None,
    cuda_graph: options.CudaGraph = None,
    warm_up_ms: options.WarmUpMs = None,
    rounds: options.Rounds = None,
    round_ms: options.RoundMs = None,
    input_sets: options.InputSets = None,
    margin: options.Margin = None,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Build, time and verify the engine of a searched run on this machine, which needs neither model nor data.

    The searched plan is built beside the uniform ones and shipped only if it is faster than FP16 or BF16. With --eval
    the task metric is measured through the engine too.
    """
    given = options.settings_given(locals())
    from trt_mpq.cli.output import Output
    from trt_mpq.report.terminal import device_section
    from trt_mpq.types.engine import Deployment

    sink = Output(quiet=quiet, json=json)
    deployment = open_device(run_dir, given, sink).ship(evaluate=eval is not None)
    sink.result(deployment, Deployment, device_section)
