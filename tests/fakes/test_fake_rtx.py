"""A GPU with TensorRT for RTX alone, pretended: engines are built, looked at, timed, scored and run with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.fakes.fixtures import PretendGpu
from tests.runs import Recorder, start, tiny_cnn, write_data
from trt_mpq.engine.manifest import read_manifest
from trt_mpq.engine.run import run_engine
from trt_mpq.pipeline.device_run import DeviceRun
from trt_mpq.settings import settings_from
from trt_mpq.types.engine import AheadOfTime

QUICKEST = {"search": "uniform", "calibration": "minmax", "bias_correction": False, "latency": "modelled"}
TIMING = {"rounds": 2, "round_ms": 1.0, "warm_up_ms": 0.0}


def test_a_gpu_with_rtx_alone_builds_times_and_runs_engines_of_it(pretend_gpu: PretendGpu, tmp_path: Path) -> None:
    pretend_gpu("rtx-1.7", gpu="NVIDIA GeForce RTX 4090", sm=89)
    files, run = write_data(tmp_path, tiny_cnn()), tmp_path / "run"
    report = start(files, run, device="rtx4090", **QUICKEST, engine={"compile": False, **TIMING}).report()
    assert report.device is not None
    assert (report.device.platform.flavour, report.device.platform.sm) == ("rtx", 89)
    assert report.device.shipped is not None
    assert report.device.shipped.build.platform == AheadOfTime(report.device.platform.tensorrt, (89,))
    assert report.device.timing is not None
    assert report.device.realised is not None
    assert report.device.score is not None
    assert read_manifest(run / "engine" / "manifest.json").platform == report.device.shipped.build.platform
    assert list((run / "engine").rglob("*.runtime-cache")), "what was compiled on the GPU is kept"

    settings = settings_from({**files, "device": "rtx4090", **QUICKEST}, "test")
    record = DeviceRun(settings, run, Recorder()).bisect()
    assert (record.platform.flavour, record.bisection.at_fault) == ("rtx", {})

    outputs = tmp_path / "outputs.npz"
    run_engine(run, files["eval"], outputs, Recorder())
    with np.load(outputs) as arrays, np.load(files["eval"]) as given:
        assert np.mean(arrays["output"].argmax(axis=1) == given["labels"]) > 0.7
