"""Code of others runs only where the user named it, and the user's own cannot end a command in silence."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner, Result

from tests.networks import mlp, sample_input
from trt_mpq.artifacts.files import to_json
from trt_mpq.artifacts.store import Manifest, read_manifest
from trt_mpq.cli import app

METRIC = """
import os, sys, numpy as np
print("metric imported")
def good(outputs, labels):
    print("metric at work")
    return np.ones(len(outputs["output"]))
def negative(outputs, labels):
    return -1.0 - np.abs(outputs["output"]).mean(axis=1)
def zero(outputs, labels):
    return 0.0
def leaves(outputs, labels):
    sys.exit(0)
def ends(outputs, labels):
    os._exit(0)
def hangs(outputs, labels):
    while True: pass
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    onnx.save(mlp(), tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", **sample_input(mlp(), 16))
    (tmp_path / "trust_metric.py").write_text(METRIC, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "trust_metric", raising=False)
    return tmp_path


def command(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def build(metric: str, *more: str) -> Result:
    options = ("--calib", "data.npz", "--search", "uniform", "--no-engine", "--threads", "1", "--no-bias-correction")
    return command(
        "build", "net.onnx", *options, "--calibration", "minmax", "--metric", f"trust_metric:{metric}", *more
    )


def test_what_a_metric_prints_is_no_result(here: Path) -> None:
    done = build("good", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["accuracy"]["metric"] == "trust_metric:good"


@pytest.mark.parametrize(("metric", "call"), [("leaves", "sys.exit(0)"), ("ends", "os._exit(0)")])
def test_a_metric_that_leaves_does_not_end_the_run_in_silence(metric: str, call: str, here: Path) -> None:
    done = build(metric, "--json")
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"error: metric trust_metric:{metric} called {call}" in done.stderr


def test_a_metric_that_hangs_can_be_bounded(here: Path) -> None:
    done = build("hangs", "--metric-timeout", "0.1")
    assert done.exit_code == 2
    assert "metric trust_metric:hangs took longer than 0.1 s: raise --metric-timeout" in done.stderr


def test_a_negative_score_can_be_kept(here: Path) -> None:
    done = build("negative", "--target-accuracy", "0.9", "--json")
    assert done.exit_code == 0, done.output
    accuracy = json.loads(done.stdout)["accuracy"]
    assert accuracy["fp32"] < 0
    assert accuracy["target"] == pytest.approx(1.1 * accuracy["fp32"])
    assert accuracy["plan"] >= accuracy["target"]


def test_a_score_of_zero_asks_for_an_absolute_loss(here: Path) -> None:
    done = build("zero")
    assert done.exit_code == 2
    assert "scores 0 by the metric trust_metric:zero, and no share of that can be kept" in done.stderr
    done = build("zero", "--max-loss", "0.1", "--json")
    assert done.exit_code == 0, done.output
    accuracy = json.loads(done.stdout)["accuracy"]
    assert (accuracy["target"], accuracy["target_fraction"]) == (-0.1, None)


def test_a_folder_runs_no_metric_that_the_user_does_not_trust(here: Path) -> None:
    assert build("good").exit_code == 0
    (here / "trust_metric.py").write_text("raise RuntimeError('somebody else wrote this')", encoding="utf-8")
    sys.modules.pop("trust_metric")
    done = command("report", "run")
    assert done.exit_code == 2
    assert "run names the metric trust_metric:good, which would be run as code here: pass --trust" in done.stderr
    assert "trust_metric" not in sys.modules
    assert "somebody else wrote this" in command("report", "run", "--trust").stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"engine": {"plugins": ["evil.so"]}}, "the plugin library evil.so"),
        ({"ray": "10.0.0.1:6379"}, "the Ray cluster 10.0.0.1:6379"),
    ],
)
def test_nor_a_plugin_or_a_cluster(here: Path, change: dict[str, object], words: str) -> None:
    assert build("good").exit_code == 0
    manifest = read_manifest(here / "run")
    assert manifest is not None
    settings = {**manifest.settings, "metric": "auto", **change}
    changed = Manifest(manifest.source_sha256, settings=settings, stages=manifest.stages)
    (here / "run" / "manifest.json").write_text(to_json(changed, Manifest), encoding="utf-8")
    done = command("engine", "run")
    assert done.exit_code == 2
    assert f"run names {words}" in done.stderr


def test_a_job_file_is_trusted_no_more(here: Path) -> None:
    (here / "job.toml").write_text('model = "net.onnx"\ncalib = "data.npz"\nmetric = "trust_metric:good"\n')
    done = command("build", "job.toml", "--no-engine")
    assert done.exit_code == 2
    assert "job.toml names the metric trust_metric:good" in done.stderr
    assert not (here / "run").exists()


@pytest.mark.parametrize("name", ["model", "calib"])
def test_inputs_do_not_lie_where_results_go(here: Path, name: str) -> None:
    assert build("good").exit_code == 0
    file = {"model": "net.onnx", "calib": "data.npz"}[name]
    (here / file).rename(here / "run" / f"mine-{file}")
    content = (here / "run" / f"mine-{file}").read_bytes()
    words = ["build", "net.onnx", "--calib", "data.npz"]
    done = command(*(f"run/mine-{word}" if word == file else word for word in words), "--no-engine")
    assert done.exit_code == 2
    assert f"run/mine-{file} lies in the run folder, where results go" in done.stderr
    assert (here / "run" / f"mine-{file}").read_bytes() == content


@pytest.mark.usefixtures("hears_hangups")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_stops_a_run_that_goes_on_later(here: Path, number: signal.Signals, code: int) -> None:
    words = ["build", "net.onnx", "--calib", "data.npz", "--no-engine", "--metric", "trust_metric:hangs"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-m", "trt_mpq", *words], stderr=subprocess.PIPE, text=True, env=environment
    ) as run:
        assert run.stderr is not None
        assert any("metric imported" in line for line in run.stderr)
        while run.poll() is None:  # a signal may strike where Python drops exceptions, in a finalizer say
            run.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.wait(timeout=20)
        rest = run.stderr.read()
        assert run.returncode == code
    assert rest.splitlines()[-1] == f"stopped by {number.name}; run the same command to resume"
    assert build("good").exit_code == 0
