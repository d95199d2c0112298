"""`trt-mpq sensitivity`: how much each group suffers from each precision."""

from __future__ import annotations

from trt_mpq.cli import options
from trt_mpq.cli.opening import open_stage


def sensitivity(
    run_dir: options.RunDir,
    calib: options.Calib = None,
    precisions: options.Precisions = None,
    sensitivity: options.Sensitivity = None,
    sensitivity_samples: options.SensitivitySamples = None,
    trials: options.Trials = None,
    noise_amplitude: options.NoiseAmplitude = None,
    batch: options.Batch = None,
    threads: options.Threads = None,
    workers: options.Workers = None,
    ray: options.Ray = None,
    seed: options.Seed = None,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Rank the groups by what a low precision costs them; with several metrics, see which to trust."""
    given = options.settings_given(locals())
    from trt_mpq.cli.output import Output
    from trt_mpq.cli.tables import sensitivities_table
    from trt_mpq.sensitivity.agreement import Sensitivities

    sink = Output(quiet=quiet, json=json)
    sink.result(open_stage(run_dir, given, sink).sensitivities(), Sensitivities, sensitivities_table)
