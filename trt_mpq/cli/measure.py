"""`trt-mpq measure`: what every group costs on this machine's GPU."""

from __future__ import annotations

from trt_mpq.cli import options
from trt_mpq.cli.opening import open_device


def measure(
    run_dir: options.RunDir,
    typing: options.Typing = None,
    shapes: options.Shapes = None,
    workspace_mib: options.WorkspaceMib = None,
    optimization_level: options.OptimizationLevel = None,
    timing_cache: options.TimingCache = None,
    sparsity: options.Sparsity = None,
    tf32: options.Tf32 = None,
    dla_core: options.DlaCore = None,
    plugins: options.Plugins = None,
    build_timeout_s: options.BuildTimeoutS = None,
    cuda_graph: options.CudaGraph = None,
    warm_up_ms: options.WarmUpMs = None,
    rounds: options.Rounds = None,
    round_ms: options.RoundMs = None,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Time a handful of engines of a calibrated run on this machine, and keep what every group costs as a device table.

    A search, here or on another machine, takes its latencies from RUN_DIR/device-table.json.
    """
    given = options.settings_given(locals())
    from trt_mpq.cli.engine_tables import device_table_table
    from trt_mpq.cli.output import Output
    from trt_mpq.latency.device_table import DeviceTable

    sink = Output(quiet=quiet, json=json)
    sink.result(open_device(run_dir, given, sink).measure(), DeviceTable, device_table_table)
