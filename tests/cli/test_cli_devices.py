"""`--device` with several names: one table, one JSON, and folders that say what they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.runs import tiny_cnn, write_data
from trt_mpq.artifacts.files import from_json
from trt_mpq.cli import app
from trt_mpq.report.comparison import DeviceComparison

BUILD = (
    "build net.onnx --calib calib.npz --eval eval.npz --search uniform --calibration minmax --no-bias-correction "
    "--threads 1 --no-engine -o run"
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_data(tmp_path, tiny_cnn())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(words: str, code: int = 0) -> Result:
    done = CliRunner().invoke(app, words.split(), env={"COLUMNS": "100"})
    assert done.exit_code == code, done.output
    return done


def test_build_and_report_print_one_table_or_one_json(here: Path) -> None:
    table = said(f"{BUILD} --device l4,t4").stdout
    assert "net.onnx on 2 devices, batch 32, latency modelled" in table
    assert [line.split()[0] for line in table.splitlines() if "✓" in line] == ["l4", "t4"]
    assert "run/comparison.html compares them" in " ".join(table.split())
    assert said("report run").stdout == table
    found = from_json(said("report run --json -q").stdout, DeviceComparison)
    assert found == from_json(Path("run/comparison.json").read_bytes(), DeviceComparison)
    assert json.loads(Path("run/t4/report.json").read_text())["latency_ms"]["device"] == "t4"
    assert "net.onnx on t4" in said("report run/t4").stdout


def test_a_job_names_devices_as_a_list(here: Path) -> None:
    Path("job.toml").write_text('model = "net.onnx"\ncalib = "calib.npz"\ndevice = ["l4", "gpu.toml"]\n')
    Path("gpu.toml").write_text("")
    assert "gpu.toml: name: Field required" in said("build job.toml -o run --dry-run", 2).output
    Path("job.toml").write_text('model = "net.onnx"\ncalib = "calib.npz"\ndevice = ["l4", "t4"]\n')
    shown = " ".join(said("build job.toml -o run --dry-run").output.split())
    assert "then for t4 their own search and files alone" in shown


@pytest.mark.parametrize(
    "words",
    [f"{command} run" for command in ("search", "emit", "compare", "calibrate", "engine", "measure", "doctor")]
    + ["build net.onnx --device l4 -o run"],
)
def test_commands_for_one_device_name_the_folders(words: str, here: Path) -> None:
    said(f"{BUILD} --device l4,t4 --dry-run")
    told = said(words, 2).output
    assert "run holds a run for each of several devices (" in told
    assert "give one of these folders, as in run/l4" in " ".join(told.split())


def test_what_is_of_one_device_takes_one(here: Path) -> None:
    assert "name one with --device" in said("inspect net.onnx --device l4,t4 -o run", 2).output
    told = said(f"{BUILD} --device l4,t4 --save-engine e.plan", 2).output
    assert "--save-engine takes the engine of one device" in told
