"""What can be known beforehand is refused or said before the first second of work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.runs import Recorder, start, tiny_cnn, write_data
from trt_mpq.artifacts.store import read_manifest
from trt_mpq.errors import DataError, MissingDependencyError, SettingsError, TrtMpqError
from trt_mpq.pipeline.checks import without_effect
from trt_mpq.settings import settings_from


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    return write_data(tmp_path_factory.mktemp("data"), tiny_cnn())


def refused(files: dict[str, str], folder: Path, error: type[TrtMpqError], said: str, **settings: object) -> Recorder:
    observer = Recorder()
    with pytest.raises(error, match=said):
        start(files, folder, observer, **settings).report()
    assert observer.stages == [], "nothing was calibrated, scored or searched"
    return observer


@pytest.mark.parametrize("option", ["keep", "exclude"])
def test_a_mistyped_pattern_is_refused_and_never_kept(files, tmp_path, option):
    pattern = "fp16:frist*" if option == "keep" else "frist*"
    refused(
        files,
        tmp_path / "run",
        SettingsError,
        rf"--{option} .*frist\* matches none of the 4 groups",
        **{option: (pattern,)},
    )
    manifest = read_manifest(tmp_path / "run")
    assert manifest is None or pattern not in str(manifest.settings)
    start(files, tmp_path / "run", **{option: (pattern.replace("frist", "first"),)}).inspect()


def test_a_run_keeps_its_settings_when_a_pattern_is_refused(files, tmp_path):
    start(files, tmp_path / "run", exclude=("first",)).inspect()
    refused(files, tmp_path / "run", SettingsError, "matches none", exclude=("third",))
    manifest = read_manifest(tmp_path / "run")
    assert manifest is not None
    assert manifest.settings["exclude"] == ["first"]


def test_a_missing_holdout_is_refused_before_the_search(files, tmp_path):
    refused(files, tmp_path / "run", DataError, "nowhere.npz does not exist", holdout="nowhere.npz")


def test_data_that_does_not_fit_is_refused_before_anything_is_scored(files, tmp_path):
    np.savez(tmp_path / "other.npz", image=np.zeros((4, 3, 8, 8), np.float32))
    refused(
        files,
        tmp_path / "run",
        DataError,
        "lacks 'input' and has the surplus 'image'",
        calib=str(tmp_path / "other.npz"),
    )


def test_latencies_that_cannot_be_measured_are_refused(files, tmp_path):
    refused(files, tmp_path / "run", TrtMpqError, "tensorrt|pycuda|GPU", latency="measured")


def test_ray_that_is_not_there_is_refused(files, tmp_path, monkeypatch):
    monkeypatch.setattr("trt_mpq.workers.ray.find_spec", lambda name: None)
    refused(files, tmp_path / "run", MissingDependencyError, "ray is not installed and --ray needs it", ray="auto")


def test_another_batch_than_the_models_is_refused(tmp_path):
    proto = tiny_cnn()
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    free = write_data(tmp_path, tiny_cnn())
    (tmp_path / "fixed.onnx").write_bytes(proto.SerializeToString())
    fixed = {**free, "model": str(tmp_path / "fixed.onnx")}
    refused(fixed, tmp_path / "run", SettingsError, "has a fixed batch of 4 and --batch asks for 8", batch=8)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"trials": 3}, "--trials has no effect in this run: --sensitivity output-sqnr does not use it"),
        ({"noise_amplitude": 2.0, "sensitivity": "hessian"}, "--noise-amplitude has no effect"),
        ({"smooth_alpha": 0.5}, "--smooth-alpha has no effect in this run: it is for --smooth"),
        ({"adaround_steps": 7}, "it is for --adaround"),
        ({"mix_formats": True}, "--mix-formats has no effect in this run: int8 is the only format of --precisions"),
        ({"eval_samples": 5}, "there is no --eval"),
        ({"decode": "yolov8"}, "it is for the metrics map50"),
        ({"preprocess": "imagenet"}, "no data is a folder of images"),
        ({"metric_timeout": 3.0}, "a metric of your own"),
        ({"compare_function": "l2"}, "--compare-function has no effect"),
        ({"engine": {"build": "never", "rounds": 5}}, "--rounds has no effect in this run: no engine is timed"),
        ({"engine": {"portable": True, "compile": False}}, "--portable has no effect"),
    ],
)
def test_options_that_do_nothing_are_said(settings: dict[str, object], said: str) -> None:
    [text] = without_effect(settings_from({"model": "m.onnx", **settings}, "here"))
    assert said in text


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"trials": 3, "sensitivity": "noise"},
        {"trials": 3, "sensitivity": "output-sqnr,hessian"},
        {"smooth": True, "smooth_alpha": 0.5},
        {"mix_formats": True, "precisions": "fp16,fp8,int8"},
        {"metric": "map50", "decode": "yolov8"},
        {"engine": {"rounds": 5}},
    ],
)
def test_options_that_do_something_are_not(settings: dict[str, object]) -> None:
    assert list(without_effect(settings_from({"model": "m.onnx", **settings}, "here"))) == []


def test_the_report_says_them_too(files, tmp_path):
    report = start(files, tmp_path / "run", trials=3, search="uniform", calibration="minmax").report()
    assert any(text.startswith("--trials has no effect") for text in report.warnings)
