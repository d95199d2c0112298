"""`trt-mpq build`: the whole way from a model to a plan, an engine and a report."""

from __future__ import annotations

from pathlib import Path

from trt_mpq.cli import options
from trt_mpq.cli.opening import open_build


def build(
    source: options.Source,
    model: options.Model = None,
    calib: options.Calib = None,
    eval: options.Eval = None,
    calib_samples: options.CalibSamples = None,
    eval_samples: options.EvalSamples = None,
    metric: options.Metric = None,
    target_accuracy: options.TargetAccuracy = None,
    target_latency: options.TargetLatency = None,
    target_size: options.TargetSize = None,
    precisions: options.Precisions = None,
    mix_formats: options.MixFormats = None,
    device: options.Device = None,
    batch: options.Batch = None,
    sensitivity: options.Sensitivity = None,
    search: options.Search = None,
    confidence: options.Confidence = None,
    max_evaluations: options.MaxEvaluations = None,
    max_seconds: options.MaxSeconds = None,
    keep: options.Keep = None,
    exclude: options.Exclude = None,
    refine_plan: options.RefinePlan = None,
    sensitivity_samples: options.SensitivitySamples = None,
    trials: options.Trials = None,
    noise_amplitude: options.NoiseAmplitude = None,
    calibration: options.Calibration = None,
    bias_correction: options.BiasCorrection = None,
    adaround: options.Adaround = None,
    adaround_steps: options.AdaroundSteps = None,
    equalize: options.Equalize = None,
    smooth: options.Smooth = None,
    smooth_alpha: options.SmoothAlpha = None,
    exclusions: options.Exclusions = None,
    latency: options.Latency = None,
    engine: options.Engine = None,
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
    threads: options.Threads = None,
    workers: options.Workers = None,
    ray: options.Ray = None,
    seed: options.Seed = None,
    output: options.Output = Path("run"),
    quiet: options.Quiet = False,
    json: options.Json = False,
    details: options.Details = False,
) -> None:
    """Find the fastest plan that meets the accuracy target; write it as ONNX, and where there is a GPU as an engine.

    Options override the job file. Interrupted, the same command goes on where it stopped.
    """
    given = options.settings_given(locals())
    from trt_mpq.cli.output import Output

    sink = Output(quiet=quiet, json=json)
    sink.report(open_build(source, given, output, sink).report(), output, details)
