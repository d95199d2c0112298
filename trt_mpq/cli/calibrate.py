"""`trt-mpq calibrate`: the ranges of every tensor."""

from __future__ import annotations

from trt_mpq.cli import options
from trt_mpq.cli.opening import open_stage


def calibrate(
    run_dir: options.RunDir,
    calib: options.Calib = None,
    calib_samples: options.CalibSamples = None,
    precisions: options.Precisions = None,
    calibration: options.Calibration = None,
    bias_correction: options.BiasCorrection = None,
    adaround: options.Adaround = None,
    adaround_steps: options.AdaroundSteps = None,
    equalize: options.Equalize = None,
    smooth: options.Smooth = None,
    smooth_alpha: options.SmoothAlpha = None,
    exclusions: options.Exclusions = None,
    batch: options.Batch = None,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Observe the calibration data and choose every tensor's range."""
    given = options.settings_given(locals())
    from trt_mpq.cli.output import Output
    from trt_mpq.cli.tables import ranges_table
    from trt_mpq.types import Ranges

    sink = Output(quiet=quiet, json=json)
    sink.result(open_stage(run_dir, given, sink).calibrate(), Ranges, ranges_table)
