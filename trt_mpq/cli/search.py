"""`trt-mpq search`: the plan."""

from __future__ import annotations

from trt_mpq.cli import options
from trt_mpq.cli.opening import open_stage


def search(
    run_dir: options.RunDir,
    calib: options.Calib = None,
    eval: options.Eval = None,
    eval_samples: options.EvalSamples = None,
    metric: options.Metric = None,
    target_accuracy: options.TargetAccuracy = None,
    target_latency: options.TargetLatency = None,
    target_size: options.TargetSize = None,
    precisions: options.Precisions = None,
    mix_formats: options.MixFormats = None,
    device: options.Device = None,
    batch: options.Batch = None,
    search: options.Search = None,
    confidence: options.Confidence = None,
    max_evaluations: options.MaxEvaluations = None,
    max_seconds: options.MaxSeconds = None,
    keep: options.Keep = None,
    exclude: options.Exclude = None,
    refine_plan: options.RefinePlan = None,
    sensitivity: options.Sensitivity = None,
    threads: options.Threads = None,
    workers: options.Workers = None,
    ray: options.Ray = None,
    seed: options.Seed = None,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Try plans along the ranking and choose the fastest that meets the accuracy target."""
    given = options.settings_given(locals())
    from trt_mpq.cli.output import Output
    from trt_mpq.cli.tables import search_table
    from trt_mpq.types import SearchResult

    sink = Output(quiet=quiet, json=json)
    sink.result(open_stage(run_dir, given, sink).search(), SearchResult, search_table)
