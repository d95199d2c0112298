"""`trt-mpq build`: the whole way from a model to a plan, a typed network and a report."""

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
    precisions: options.Precisions = None,
    mix_formats: options.MixFormats = None,
    device: options.Device = None,
    batch: options.Batch = None,
    sensitivity: options.Sensitivity = None,
    search: options.Search = None,
    sensitivity_samples: options.SensitivitySamples = None,
    trials: options.Trials = None,
    noise_amplitude: options.NoiseAmplitude = None,
    calibration: options.Calibration = None,
    bias_correction: options.BiasCorrection = None,
    equalize: options.Equalize = None,
    exclusions: options.Exclusions = None,
    threads: options.Threads = None,
    seed: options.Seed = None,
    output: options.Output = Path("run"),
    quiet: options.Quiet = False,
    json: options.Json = False,
    details: options.Details = False,
) -> None:
    """Find the fastest plan that meets the accuracy target, and write it as ONNX with a report.

    Options override the job file. Interrupted, the same command goes on where it stopped.
    """
    given = options.settings_given(locals())
    from trt_mpq.cli.output import Output

    sink = Output(quiet=quiet, json=json)
    sink.report(open_build(source, given, output, sink).report(), output, details)
